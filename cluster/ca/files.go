package ca

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// The files of an authority, in a directory of its own.
const (
	authorityCert = "ca.crt"
	authorityKey  = "ca.key"
)

// Files are where one's own certificate and its key are, and the authority's certificate (more than one while the authority
// changes), all PEM.
type Files struct{ Cert, Key, CA string }

// Save writes the authority into a directory, which it makes. It replaces nothing: an authority that is there stays.
func (c CA) Save(dir string) (Files, error) {
	files := Files{Cert: filepath.Join(dir, authorityCert), Key: filepath.Join(dir, authorityKey)}
	key, err := encodeKey(c.key)
	if err != nil {
		return Files{}, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Files{}, fmt.Errorf("save the authority: %w", err)
	}
	if err := write(files.Key, key, 0o600, keep); err != nil {
		return Files{}, fmt.Errorf("save the authority's key (one that is there stays: name another directory): %w", err)
	}
	if err := write(files.Cert, encodeCert(c.cert.Raw), 0o644, keep); err != nil {
		return Files{}, errors.Join(fmt.Errorf("save the authority's certificate: %w", err), os.Remove(files.Key))
	}
	return files, nil
}

// Read loads the authority of a directory.
func Read(dir string) (CA, error) {
	cert, err := readFile(filepath.Join(dir, authorityCert))
	if err != nil {
		return CA{}, fmt.Errorf("read the authority's certificate: %w", err)
	}
	key, err := readKey(filepath.Join(dir, authorityKey))
	if err != nil {
		return CA{}, fmt.Errorf("read the authority's key: %w", err)
	}
	c, err := Load(cert, key)
	if err != nil {
		return CA{}, fmt.Errorf("authority %s: %w", dir, err)
	}
	return c, nil
}

// Save writes what was issued into a directory, which it makes, in the place of what had been issued to the same one before.
// Another cluster's ca.crt is not replaced; one of this cluster stays, since it may hold more than one authority.
func (i Issued) Save(dir string) (Files, error) {
	base := filepath.Join(dir, string(i.Identity.Role)+"-"+i.Identity.Name)
	files := Files{Cert: base + ".crt", Key: base + ".key", CA: filepath.Join(dir, authorityCert)}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Files{}, fmt.Errorf("save the certificate: %w", err)
	}
	err := write(files.CA, i.CA, 0o644, keep)
	if errors.Is(err, fs.ErrExist) {
		err = i.trustedBy(files.CA)
	}
	if err != nil {
		return Files{}, fmt.Errorf("save the authority's certificate: %w", err)
	}
	if err := write(files.Key, i.Key, 0o600, replace); err != nil {
		return Files{}, fmt.Errorf("save the key: %w", err)
	}
	if err := write(files.Cert, i.Cert, 0o644, replace); err != nil {
		return Files{}, fmt.Errorf("save the certificate: %w", err)
	}
	return files, nil
}

// trustedBy tells whether the authority that issued i is one of a file's.
func (i Issued) trustedBy(path string) error {
	data, err := readFile(path)
	if err != nil {
		return err
	}
	if _, err := newMaterial(i.Cert, i.Key, data); err != nil {
		return fmt.Errorf("%s is there already, and another authority's: %w", path, err)
	}
	return nil
}

// maxFile is more than any of the files has.
const maxFile = 256 << 10

func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() { // nor is a pipe waited for
		return nil, fmt.Errorf("%s is not a file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if len(data) > maxFile {
		err = fmt.Errorf("%s has more than %d bytes", path, maxFile)
	}
	return data, errors.Join(err, f.Close())
}

// readKey reads a file that strangers must not be able to read or write.
func readKey(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if mode := info.Mode(); mode&0o027 != 0 {
		return nil, fmt.Errorf("%s: mode %s is open to others than its owner and group; chmod 600", path, mode)
	}
	return readFile(path)
}

// What becomes of a file that is there.
const (
	keep    = false
	replace = true
)

// write puts a file into place, on disk, with all its bytes or not at all. A file to be kept is an error (fs.ErrExist). Before
// it has its name, more may be done to it.
func write(path string, data []byte, mode fs.FileMode, over bool, also ...func(*os.File) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // O_EXCL, 0600
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	for _, do := range also {
		err = errors.Join(err, do(f))
	}
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	switch {
	case err != nil:
	case over:
		err = os.Rename(f.Name(), path)
	default:
		var link *os.LinkError
		if err = os.Link(f.Name(), path); errors.As(err, &link) { // its other name is nobody's business
			err = &fs.PathError{Op: "create", Path: path, Err: link.Err}
		}
	}
	if err != nil || !over {
		err = errors.Join(err, os.Remove(f.Name()))
	}
	return errors.Join(err, syncDir(filepath.Dir(path)))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
