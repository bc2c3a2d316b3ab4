package main

import (
	"crypto/tls"
	"fmt"
	"net"

	"tunneldirector/director/config"
)

// listenTCP opens an address, with TLS where a certificate is configured. The certificate is read again for each
// connection, so that it can be renewed under a running director.
func listenTCP(address string, files config.TLS) (net.Listener, error) {
	if files.Cert == "" {
		return net.Listen("tcp", address)
	}
	read := func() (*tls.Certificate, error) {
		c, err := tls.LoadX509KeyPair(files.Cert, files.Key)
		if err != nil {
			return nil, fmt.Errorf("read the API's certificate: %w", err)
		}
		return &c, nil
	}
	if _, err := read(); err != nil {
		return nil, err
	}
	return tls.Listen("tcp", address, &tls.Config{MinVersion: tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return read() }})
}
