package ca

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// A Credential is who this process is, and whom it believes, by files that may be renewed while it is in use: they are read
// at each handshake. Its methods may be called from any goroutine.
type Credential struct {
	files Files
	role  Role
	name  string
	log   *slog.Logger

	mu      sync.Mutex // guards what follows
	now     *material
	problem error // with what is in the files; nil: it is in use
	renews  bool  // a Renewer runs
	tried   time.Time
	failed  error // why the last try to renew it did; nil: it did not
}

// Open reads the files of somebody with a role and a name: a certificate of another one is refused. Whether it is valid today
// is not asked here, so that a clock or a late renewal keeps no daemon from starting: see Alarm.
func Open(files Files, role Role, name string, log *slog.Logger) (*Credential, error) {
	c := &Credential{files: files, role: role, name: name, log: log}
	raw, err := c.read()
	if err != nil {
		return nil, err
	}
	if c.now, err = c.use(raw); err != nil {
		return nil, err
	}
	return c, nil
}

// Identity is whose the certificate is.
func (c *Credential) Identity() Identity {
	m, _ := c.look()
	return m.is.Identity
}

// Expires is when the certificate ends.
func (c *Credential) Expires() time.Time {
	m, _ := c.look()
	return m.is.Expires
}

// Alarm says what is wrong with the certificate, from four weeks before its end on, and what becomes of that; "" if nothing is.
func (c *Credential) Alarm() string {
	m, problem := c.look()
	of := fmt.Sprintf("the certificate of %s", m.is.Identity)
	now := time.Now()
	if problem != nil {
		return fmt.Sprintf("%s was not renewed, and the one before goes on until %s: %v", of, date(m.is.Expires), problem)
	}
	switch m.is.State(now) {
	case NotYetValid:
		return fmt.Sprintf("%s is valid from %s on, and here it is %s: set the clock", of, date(m.is.NotBefore), date(now))
	case Expired:
		return fmt.Sprintf("%s expired on %s, and nobody believes it any more: issue a new one with director ca issue", of, date(m.is.Expires))
	case ExpiresSoon:
		return fmt.Sprintf("%s expires on %s: %s", of, date(m.is.Expires), c.remedy())
	}
	return ""
}

// remedy is what becomes of a certificate that is about to end.
func (c *Credential) remedy() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.renews && c.failed != nil:
		return fmt.Sprintf("it renews itself, but the last try, on %s, failed, and another comes within two hours; or issue a new one with director ca issue: %s", date(c.tried), strings.ReplaceAll(c.failed.Error(), "\n", "; "))
	case c.renews:
		return "it renews itself, and is about to"
	}
	return "issue a new one with director ca issue"
}

// contents are what is in the files.
type contents struct{ cert, key, ca []byte }

func (a contents) equal(b contents) bool {
	return bytes.Equal(a.cert, b.cert) && bytes.Equal(a.key, b.key) && bytes.Equal(a.ca, b.ca)
}

// material is what files were good for.
type material struct {
	from  contents
	is    Certificate
	own   *tls.Certificate
	roots *x509.CertPool
}

// look is what the files say, or said when they last were of use, and then why they are of none now. They are so small that
// reading them costs less than a wrong guess by their times: a file may be written twice in one tick of the clock.
func (c *Credential) look() (*material, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	raw, err := c.read()
	if err == nil && raw.equal(c.now.from) {
		c.problem = nil
		return c.now, nil
	}
	var m *material
	if err == nil {
		m, err = c.use(raw)
	}
	if err == nil && m.from.equal(c.now.from) {
		c.problem = nil
		return c.now, nil
	}
	if err != nil {
		if c.problem == nil || c.problem.Error() != err.Error() {
			c.log.Warn("certificate not renewed", "cert", c.files.Cert, "until", c.now.is.Expires, "err", err)
		}
		c.problem = err
		return c.now, err
	}
	c.log.Info("certificate renewed", "cert", c.files.Cert, "until", m.is.Expires)
	c.now, c.problem = m, nil
	return m, nil
}

func (c *Credential) read() (raw contents, err error) {
	if raw.cert, err = readFile(c.files.Cert); err != nil {
		return contents{}, fmt.Errorf("read the certificate: %w", err)
	}
	if raw.key, err = readKey(c.files.Key); err != nil {
		return contents{}, fmt.Errorf("read the certificate's key: %w", err)
	}
	if raw.ca, err = readFile(c.files.CA); err != nil {
		return contents{}, fmt.Errorf("read the authority's certificate: %w", err)
	}
	return raw, nil
}

// use is what files are good for. If certificate and key do not belong together, a renewal may have been cut off between
// them: then it is what that had got.
func (c *Credential) use(raw contents) (*material, error) {
	m, err := c.parse(raw)
	if err == nil {
		return m, nil
	}
	cert, key, errNext := c.files.readNext()
	if errNext != nil {
		return nil, err // the usual: there is none
	}
	if m, errNext = c.parse(contents{cert, key, raw.ca}); errNext != nil {
		return nil, err
	}
	return m, nil
}

func (c *Credential) parse(raw contents) (*material, error) {
	m, err := newMaterial(raw.cert, raw.key, raw.ca)
	if err != nil {
		return nil, fmt.Errorf("certificate %s, key %s, authority %s: %w", c.files.Cert, c.files.Key, c.files.CA, err)
	}
	if m.is.Identity.Role != c.role || m.is.Identity.Name != c.name {
		return nil, fmt.Errorf("certificate %s is that of %s; wanted is that of %s %s", c.files.Cert, m.is.Identity, c.role, c.name)
	}
	return m, nil
}

// newMaterial holds a certificate against its key and the authorities, whatever the time.
func newMaterial(cert, key, authorities []byte) (*material, error) {
	pair, err := keyPair(cert, key)
	if err != nil {
		return nil, err
	}
	id, err := identityOf(pair.Leaf)
	if err != nil {
		return nil, err
	}
	m := &material{from: contents{cert, key, authorities}, own: &pair, roots: x509.NewCertPool(),
		is: Certificate{Identity: id, NotBefore: pair.Leaf.NotBefore, Expires: pair.Leaf.NotAfter}}
	list, err := parseCertificates(authorities)
	if err != nil {
		return nil, fmt.Errorf("the authority's file %w", err)
	}
	for _, a := range list {
		of, err := authorityOf(a)
		if err != nil {
			return nil, fmt.Errorf("the authority's file: %w", err)
		}
		if of.Cluster != id.Cluster {
			return nil, fmt.Errorf("the authority's file has cluster %s, and the certificate is that of %s", of.Cluster, id)
		}
		m.roots.AddCert(a)
	}
	if err := m.verify(pair.Leaf, x509.ExtKeyUsageClientAuth, pair.Leaf.NotAfter); err != nil {
		return nil, fmt.Errorf("the authority did not issue the certificate: %w", err)
	}
	return m, nil
}

// verify tells whether one of the authorities certified a key for a use at a time.
func (m *material) verify(c *x509.Certificate, use x509.ExtKeyUsage, at time.Time) error {
	_, err := c.Verify(x509.VerifyOptions{Roots: m.roots, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{use}})
	return err
}
