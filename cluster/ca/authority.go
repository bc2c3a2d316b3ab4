package ca

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"time"
)

const (
	day = 24 * time.Hour
	// Validity is how long a certificate is valid unless something else is asked for.
	Validity = 365 * day
	// authorityValidity is long: a new authority's certificate has to get to every machine.
	authorityValidity = 10 * 365 * day
	// leeway is for clocks that are behind the issuer's.
	leeway = time.Hour
)

// A CA is an authority with its key.
type CA struct {
	id   Identity
	cert *x509.Certificate
	key  crypto.Signer
}

// New makes the authority of a new cluster.
func New(cluster string, now time.Time) (CA, error) {
	id := Identity{cluster, RoleAuthority, "ca"}
	if err := id.Validate(); err != nil {
		return CA{}, err
	}
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return CA{}, fmt.Errorf("make a key: %w", err)
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{Organization: []string{"Tunnel Director"}, CommonName: cluster}, // what it issues needs an issuer
		URIs:                  []*url.URL{id.uri()},
		NotBefore:             now.Add(-leeway),
		NotAfter:              now.Add(authorityValidity),
		KeyUsage:              x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true, // nobody below it certifies
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, key)
	if err != nil {
		return CA{}, fmt.Errorf("certify the authority: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	return CA{id, cert, key}, err
}

// Load reads an authority from the PEM of its certificate and key.
func Load(certPEM, keyPEM []byte) (CA, error) {
	pair, err := keyPair(certPEM, keyPEM)
	if err != nil {
		return CA{}, err
	}
	id, err := authorityOf(pair.Leaf)
	if err != nil {
		return CA{}, err
	}
	key, ok := pair.PrivateKey.(crypto.Signer)
	if !ok {
		return CA{}, errors.New("the key cannot sign")
	}
	return CA{id, pair.Leaf, key}, nil
}

// authorityOf is whose authority a certificate is.
func authorityOf(c *x509.Certificate) (Identity, error) {
	id, err := identityOf(c)
	if err == nil && id.Role != RoleAuthority {
		err = fmt.Errorf("the certificate of %s is no authority's", id)
	}
	return id, err
}

// Cluster is the name of the authority's cluster.
func (c CA) Cluster() string { return c.id.Cluster }

// Expires is when the authority's certificate ends, and with it all that it issued.
func (c CA) Expires() time.Time { return c.cert.NotAfter }

// An Issued is what somebody needs to take part: PEM of a certificate, of its key, and of the authority's certificate.
type Issued struct {
	Identity      Identity
	Cert, Key, CA []byte
	Expires       time.Time
}

// Issue makes a key and certifies it for a director or an agent.
func (c CA) Issue(role Role, name string, now time.Time, validity time.Duration) (Issued, error) {
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return Issued{}, fmt.Errorf("make a key: %w", err)
	}
	i, err := c.certify(Identity{c.id.Cluster, role, name}, public, now, validity)
	if err != nil {
		return Issued{}, err
	}
	i.Key, err = encodeKey(key)
	return i, err
}

// certify signs a certificate; what it returns lacks the key.
func (c CA) certify(id Identity, public ed25519.PublicKey, now time.Time, validity time.Duration) (Issued, error) {
	if err := id.Validate(); err != nil {
		return Issued{}, err
	}
	usage := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	switch id.Role {
	case RoleDirector: // is dialled, and dials
		usage = append(usage, x509.ExtKeyUsageServerAuth)
	case RoleAuthority:
		return Issued{}, errors.New("an authority certifies no other authority")
	}
	until := now.Add(validity).Truncate(time.Second)
	switch {
	case validity < time.Second:
		return Issued{}, fmt.Errorf("a certificate for %s: at least a second", validity)
	case until.After(c.cert.NotAfter):
		return Issued{}, fmt.Errorf("a certificate until %s: the authority's own ends on %s; ask for less, or make a new authority", date(until), date(c.cert.NotAfter))
	}
	template := &x509.Certificate{
		URIs:                  []*url.URL{id.uri()},
		NotBefore:             now.Add(-leeway),
		NotAfter:              until,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           usage,
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, c.cert, public, c.key)
	if err != nil {
		return Issued{}, fmt.Errorf("certify %s: %w", id, err)
	}
	return Issued{Identity: id, Cert: encodeCert(der), CA: encodeCert(c.cert.Raw), Expires: until}, nil
}

const (
	certType = "CERTIFICATE"
	keyType  = "PRIVATE KEY"
)

func encodeCert(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: certType, Bytes: der})
}

func encodeKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode the key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: keyType, Bytes: der}), nil
}

// keyPair reads a certificate and the key that belongs to it. Its Leaf is set.
func keyPair(certPEM, keyPEM []byte) (tls.Certificate, error) {
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("certificate and key: %w", err)
	}
	return pair, nil
}

func date(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05Z") }
