package ca

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"time"
)

// A Certificate is one as people see it.
type Certificate struct {
	Identity           Identity
	NotBefore, Expires time.Time
	SHA256             string // of all of it, in hex
}

// ReadCertificates reads those of a PEM file.
func ReadCertificates(path string) ([]Certificate, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the certificate: %w", err)
	}
	list, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("certificate %s: %w", path, err)
	}
	return list, nil
}

// Parse reads the certificates of PEM. What is no certificate is refused, and not repeated: it may be a key.
func Parse(data []byte) ([]Certificate, error) {
	list, err := parseCertificates(data)
	if err != nil {
		return nil, err
	}
	out := make([]Certificate, len(list))
	for i, c := range list {
		id, err := identityOf(c)
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(c.Raw)
		out[i] = Certificate{id, c.NotBefore, c.NotAfter, hex.EncodeToString(sum[:])}
	}
	return out, nil
}

func parseCertificates(data []byte) (out []*x509.Certificate, err error) {
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		if block.Type != certType {
			return nil, fmt.Errorf("holds a %q where certificates are wanted", block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, errors.New("holds no certificate in PEM")
	}
	return out, nil
}

// The states of a certificate.
const (
	Valid       = "valid"
	ExpiresSoon = "expires soon" // in four weeks, or after two thirds of a life that is short
	Expired     = "expired"
	NotYetValid = "not yet valid"
)

// State is how a certificate stands.
func (c Certificate) State(now time.Time) string {
	soon := min(28*day, c.Expires.Sub(c.NotBefore)/3)
	switch {
	case now.Before(c.NotBefore):
		return NotYetValid
	case now.After(c.Expires):
		return Expired
	case now.After(c.Expires.Add(-soon)):
		return ExpiresSoon
	}
	return Valid
}

// life is from when a certificate was made, as far as it says, until it ends.
func (c Certificate) life() (from time.Time, life time.Duration) {
	from = c.NotBefore
	if made := from.Add(leeway); made.Before(c.Expires) { // as certify dates it back
		from = made
	}
	return from, c.Expires.Sub(from)
}
