package ipsec

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"tunneldirector/integration/guest/strongswan"
)

// An authority vouches for sites and real servers.
type authority struct {
	*testing.T
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
	serial int64
}

// Virtual machines may not know what year it is.
var (
	past   = time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)
	future = time.Date(2049, 1, 1, 0, 0, 0, 0, time.UTC)
)

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{T: t}
	a.key = a.newKey()
	a.cert = &x509.Certificate{
		Subject: pkix.Name{CommonName: "laboratory"}, NotBefore: past, NotAfter: future, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, SerialNumber: big.NewInt(1),
	}
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, a.key.Public(), a.key)
	if err == nil {
		a.cert, err = x509.ParseCertificate(der)
	}
	if err != nil {
		t.Fatal(err)
	}
	a.serial = 1
	return a
}

func (a *authority) newKey() *ecdsa.PrivateKey {
	a.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.Fatal(err)
	}
	return k
}

// identity is one with a name of its own.
func (a *authority) identity(name string) strongswan.Identity {
	a.Helper()
	a.serial++
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotBefore: past, NotAfter: future, SerialNumber: big.NewInt(a.serial),
		KeyUsage: x509.KeyUsageDigitalSignature, DNSNames: []string{name},
	}
	key := a.newKey()
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		a.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.Fatal(err)
	}
	return strongswan.Identity{
		Name:        name,
		Certificate: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Key:         pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
		Vouching:    pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}),
	}
}
