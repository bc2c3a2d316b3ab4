package ca

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"time"
)

// Sign certifies the key of a request (DER of PKCS #10) for an identity, which the caller has authenticated by its still valid
// certificate: neither name nor role changes by renewal, whatever the request says. The certificate ends with the authority's
// if validity is longer. What is returned has no key.
func (c CA) Sign(request []byte, id Identity, now time.Time, validity time.Duration) (Issued, error) {
	if id.Cluster != c.id.Cluster {
		return Issued{}, fmt.Errorf("%s is of another cluster than %s", id, c.id.Cluster)
	}
	r, err := x509.ParseCertificateRequest(request)
	if err != nil {
		return Issued{}, fmt.Errorf("read the request: %w", err)
	}
	if err := r.CheckSignature(); err != nil {
		return Issued{}, fmt.Errorf("the request is not signed by its key: %w", err)
	}
	public, ok := r.PublicKey.(ed25519.PublicKey)
	if !ok {
		return Issued{}, errors.New("the request's key is no Ed25519 key")
	}
	if len(r.URIs) != 1 || r.URIs[0].String() != id.uri().String() {
		return Issued{}, fmt.Errorf("the request is not for %s, whose it is: a renewal changes neither name nor role", id)
	}
	return c.certify(id, public, now, min(validity, c.cert.NotAfter.Sub(now)))
}

// newRequest makes a key, and asks for a certificate of it.
func newRequest(id Identity) (request, keyPEM []byte, err error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make a key: %w", err)
	}
	template := &x509.CertificateRequest{URIs: []*url.URL{id.uri()}}
	if request, err = x509.CreateCertificateRequest(rand.Reader, template, crypto.Signer(key)); err != nil {
		return nil, nil, fmt.Errorf("make a request: %w", err)
	}
	keyPEM, err = encodeKey(key)
	return request, keyPEM, err
}

// renewed holds what an authority answered against what was asked for.
func (m *material) renewed(chain, keyPEM []byte, now time.Time) (*material, error) {
	next, err := newMaterial(chain, keyPEM, m.from.ca)
	if err != nil {
		return nil, fmt.Errorf("what came is of no use: %w", err)
	}
	switch is := next.is; {
	case is.Identity != m.is.Identity:
		return nil, fmt.Errorf("what came is the certificate of %s", is.Identity)
	case is.State(now) == NotYetValid || is.State(now) == Expired:
		return nil, fmt.Errorf("what came is %s: from %s to %s; compare the clocks", is.State(now), date(is.NotBefore), date(is.Expires))
	case !is.Expires.After(m.is.Expires):
		return nil, fmt.Errorf("what came ends on %s, no later than what is there: the authority itself may be about to end", date(is.Expires))
	case bytes.Equal(keyPEM, m.from.key):
		return nil, errors.New("the key is the old one")
	}
	return next, nil
}
