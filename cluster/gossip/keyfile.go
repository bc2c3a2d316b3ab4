package gossip

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// maxFile is more than any keyring file has.
const maxFile = 4096

// errSame says that a file has not changed since it was read.
var errSame = errors.New("the file is the same")

// A stamp tells whether a file is still the one that was read. A change in place within the clock tick of the last one, of
// the same size, would be missed: the project itself always puts a new file into place.
type stamp struct{ info fs.FileInfo }

func (s stamp) is(info fs.FileInfo) bool {
	return s.info != nil && os.SameFile(s.info, info) && s.info.ModTime().Equal(info.ModTime()) && s.info.Size() == info.Size() && s.info.Mode() == info.Mode()
}

// readKept reads a file that only its owner may touch, unless it is the one seen already (errSame).
func readKept(path string, seen stamp) ([]byte, stamp, error) {
	info, err := os.Stat(path) // before it is opened: a pipe must not be waited for
	if err != nil {
		return nil, stamp{}, err
	}
	if seen.is(info) {
		return nil, seen, errSame
	}
	if !info.Mode().IsRegular() {
		return nil, stamp{}, fmt.Errorf("%s is not a file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, stamp{}, err
	}
	defer f.Close()
	if info, err = f.Stat(); err != nil { // of what is read, whatever has the name by now
		return nil, stamp{}, err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, stamp{}, fmt.Errorf("%s has mode %04o, open to others than its owner: chmod 600 %s", path, mode, path)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("%s has more than %d bytes", path, maxFile)
	}
	return data, stamp{info}, err
}

// writeNew puts a file into place where none is, whole and on disk.
func writeNew(path string, data []byte) error {
	return write(path, data, func(temporary string) error {
		if err := os.Link(temporary, path); err != nil {
			var link *os.LinkError
			if errors.As(err, &link) { // its other name is nobody's business
				err = link.Err
			}
			return err
		}
		return os.Remove(temporary)
	})
}

// replace puts a file in the place of another, whole and on disk, or leaves the old one.
func replace(path string, data []byte) error {
	return write(path, data, func(temporary string) error { return os.Rename(temporary, path) })
}

func write(path string, data []byte, place func(temporary string) error) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".new-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = place(f.Name())
	}
	if err != nil {
		os.Remove(f.Name()) // it may be gone
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
