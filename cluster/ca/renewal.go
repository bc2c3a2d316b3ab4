package ca

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// An Ask has an authority certify the key of a request (DER of PKCS #10), and is the PEM of the certificate.
type Ask func(ctx context.Context, request []byte) (chain []byte, err error)

// DueAt is when the certificate is to be renewed: at two thirds of its life or a little before (a fifteenth of it at most), by
// name, so that not all come at once.
func (c *Credential) DueAt() time.Time {
	m, _ := c.look() // why files are of no use was logged
	from, life := m.is.life()
	h := fnv.New64a()
	_, _ = h.Write([]byte(m.is.Identity.String())) // never fails
	early := life / 15 / 1000 * time.Duration(h.Sum64()%1000)
	return from.Add(life*2/3 - early)
}

// Renew asks for a certificate of a new key, and puts both into the place of the old ones. Either both are replaced or none,
// also if the machine crashes in between; an error leaves all as it was. Alarm tells why the last try failed.
func (c *Credential) Renew(ctx context.Context, ask Ask) error {
	err := c.renew(ctx, ask)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tried, c.failed = time.Now(), err
	return err
}

func (c *Credential) renew(ctx context.Context, ask Ask) error {
	if err := c.settle(); err != nil {
		return err
	}
	m, problem := c.look()
	if problem != nil {
		return fmt.Errorf("renew the certificate: what is in its files is to be mended first: %w", problem)
	}
	request, key, err := newRequest(m.is.Identity)
	if err != nil {
		return err
	}
	chain, err := ask(ctx, request)
	if err != nil {
		return err
	}
	if _, err := m.renewed(chain, key, time.Now()); err != nil {
		return fmt.Errorf("renew the certificate: %w", err)
	}
	unlock, err := c.files.lock()
	if err != nil {
		return err
	}
	err = writeAs(c.files.Key, c.files.next(), append(bytes.Clone(key), chain...))
	if err == nil {
		err = c.settleLocked()
	}
	unlock()
	if err != nil {
		return fmt.Errorf("save the renewed certificate: %w", err)
	}
	_, err = c.look()
	return err
}

// lock waits until nobody else writes into the keys' directory: the same files may be more than one credential's.
func (f Files) lock() (unlock func(), err error) {
	d, err := os.Open(filepath.Dir(f.Key))
	if err == nil {
		err = syscall.Flock(int(d.Fd()), syscall.LOCK_EX)
	}
	if err != nil {
		return nil, fmt.Errorf("lock the keys' directory: %w", err)
	}
	return func() { _ = d.Close() }, nil
}

// next is where a renewed certificate with its key is until each is in its place:
//
//	next written ──▶ certificate replaced ──▶ key replaced ──▶ next removed
//
// After a crash anywhere on the way, what is in next is of use, and settle goes on; before, what was there is.
func (f Files) next() string { return f.Key + ".next" }

// readNext reads a renewed pair that is not in its place yet.
func (f Files) readNext() (cert, key []byte, err error) {
	data, err := readKey(f.next())
	if err != nil {
		return nil, nil, err
	}
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == keyType {
			key = pem.EncodeToMemory(block)
		} else {
			cert = append(cert, pem.EncodeToMemory(block)...)
		}
	}
	return cert, key, nil
}

// settle ends a renewal that was cut off: what it had got is put into place if what is there is of no use, else dropped.
func (c *Credential) settle() error {
	unlock, err := c.files.lock()
	if err != nil {
		return err
	}
	defer unlock()
	return c.settleLocked()
}

func (c *Credential) settleLocked() error {
	cert, key, err := c.files.readNext()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = c.place(cert, key)
	}
	if err == nil {
		err = os.Remove(c.files.next())
	}
	if err == nil {
		err = syncDir(filepath.Dir(c.files.next()))
	}
	if err != nil {
		return fmt.Errorf("put the renewed certificate into place: %w", err)
	}
	return nil
}

// place puts a renewed pair into its files, unless what is there is good, and ends no sooner.
func (c *Credential) place(cert, key []byte) error {
	raw, err := c.read()
	if err != nil {
		return err
	}
	there, errThere := c.parse(raw)
	next, err := c.parse(contents{cert, key, raw.ca})
	switch {
	case errThere == nil && (err != nil || !next.is.Expires.After(there.is.Expires)):
		return nil // in place already, never whole, or somebody put a later one there
	case err != nil:
		return err
	}
	if err := writeAs(c.files.Cert, c.files.Cert, cert); err != nil {
		return err
	}
	return writeAs(c.files.Key, c.files.Key, key)
}

// writeAs writes a file with mode and owner of another one that is there. A link stays, what it names is replaced.
func writeAs(like, path string, data []byte) error {
	if to, err := filepath.EvalSymlinks(path); err == nil {
		path = to
	}
	info, err := os.Stat(like)
	if err != nil {
		return err
	}
	return write(path, data, info.Mode().Perm(), replace, func(f *os.File) error {
		if of, ok := info.Sys().(*syscall.Stat_t); ok && (int(of.Uid) != os.Geteuid() || int(of.Gid) != os.Getegid()) {
			return f.Chown(int(of.Uid), int(of.Gid))
		}
		return nil
	})
}

// Locally asks the authority of a directory of this machine.
func Locally(dir string, own *Credential) Ask {
	return func(_ context.Context, request []byte) ([]byte, error) {
		m, _ := own.look() // why files are of no use was logged
		return answer(dir, m.own.Leaf, request)
	}
}

// answer has the authority of a directory certify a request of who has a certificate.
func answer(dir string, of *x509.Certificate, request []byte) ([]byte, error) {
	id, err := identityOf(of)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	was := Certificate{Identity: id, NotBefore: of.NotBefore, Expires: of.NotAfter}
	if state := was.State(now); state == Expired || state == NotYetValid {
		return nil, fmt.Errorf("the certificate of %s is %s, and renews nothing: issue a new one with director ca issue", id, state)
	}
	authority, err := Read(dir)
	if err != nil {
		return nil, err
	}
	_, life := was.life()
	i, err := authority.Sign(request, id, now, life)
	return i.Cert, err
}
