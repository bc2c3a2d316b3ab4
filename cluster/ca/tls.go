package ca

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// ServerConfig is for a listener: who has the wanted role in this cluster, and speaks one of the protocols (ALPN), is let in,
// nobody else. In TLS 1.3 a client that is refused learns so when it first reads.
func (c *Credential) ServerConfig(want Role, protocols ...string) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		NextProtos:             protocols,
		SessionTicketsDisabled: true, // each stream is verified by what the files say then
		ClientAuth:             tls.RequireAnyClientCert,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return c.own(), nil
		},
		VerifyConnection: func(s tls.ConnectionState) error {
			return c.verifyPeer(s, want, protocols, x509.ExtKeyUsageClientAuth)
		},
	}
}

// ClientConfig is for dialling: the other end has to have the wanted role in this cluster, whatever its address is, and to
// speak protocol.
func (c *Credential) ClientConfig(want Role, protocol string) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		NextProtos:         []string{protocol},
		InsecureSkipVerify: true, // of host names: there are none. VerifyConnection verifies the rest, and the role
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return c.own(), nil
		},
		VerifyConnection: func(s tls.ConnectionState) error {
			return c.verifyPeer(s, want, []string{protocol}, x509.ExtKeyUsageServerAuth)
		},
	}
}

func (c *Credential) own() *tls.Certificate {
	m, _ := c.look() // why files are of no use was logged
	return m.own
}

func (c *Credential) verifyPeer(s tls.ConnectionState, want Role, protocols []string, use x509.ExtKeyUsage) error {
	if len(s.PeerCertificates) == 0 {
		return errNoCertificate
	}
	m, _ := c.look() // why files are of no use was logged
	if err := m.verify(s.PeerCertificates[0], use, time.Now()); err != nil {
		return fmt.Errorf("the peer's certificate: %w", err)
	}
	who, err := Peer(s)
	switch {
	case err != nil:
		return err
	case who.Cluster != m.is.Identity.Cluster:
		return fmt.Errorf("the peer is %s, and this is cluster %s", who, m.is.Identity.Cluster)
	case who.Role != want:
		return fmt.Errorf("the peer is %s; wanted is the role %s", who, want)
	case !slices.Contains(protocols, s.NegotiatedProtocol):
		return fmt.Errorf("the peer, %s, does not speak %s", who, strings.Join(protocols, " or "))
	}
	return nil
}

var errNoCertificate = errors.New("the peer shows no certificate")

// Peer is who is at the other end of a connection by a configuration of this package, once its handshake is done.
func Peer(s tls.ConnectionState) (Identity, error) {
	if len(s.PeerCertificates) == 0 {
		return Identity{}, errNoCertificate
	}
	id, err := identityOf(s.PeerCertificates[0])
	if err != nil {
		return Identity{}, fmt.Errorf("the peer's certificate: %w", err)
	}
	return id, nil
}
