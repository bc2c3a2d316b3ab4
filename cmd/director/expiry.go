package main

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

// expiry is when the first certificate of a PEM file ends, whoever issued it.
func expiry(path string) (time.Time, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return time.Time{}, fmt.Errorf("read the certificate: %w", err)
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return time.Time{}, fmt.Errorf("read the certificate %s: %w", path, errors.New("it holds no PEM"))
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return time.Time{}, fmt.Errorf("read the certificate %s: %w", path, err)
	}
	return c.NotAfter, nil
}

func wordOf(mac [6]byte) string { return net.HardwareAddr(mac[:]).String() }
