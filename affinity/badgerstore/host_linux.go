package badgerstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

type hostFS struct{}

func (hostFS) Free(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("read the free space of %s: %w", dir, err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}

// reserve makes a file of n allocated bytes.
func reserve(path string, n int64) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	err = errors.Join(unix.Fallocate(int(f.Fd()), 0, 0, n), f.Close())
	if err != nil {
		return errors.Join(fmt.Errorf("allocate %d MiB for %s: %w", n>>20, path, err), os.Remove(path))
	}
	return nil
}

func blocks(info fs.FileInfo) int64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Blocks * 512
	}
	return info.Size()
}

func mayUse(dir string) error {
	if err := unix.Access(dir, unix.R_OK|unix.W_OK|unix.X_OK); err != nil {
		return &fs.PathError{Op: "use", Path: dir, Err: err}
	}
	return nil
}

// A dirLock is badger's own lock (flock on the directory, LOCK with the process id), but taken before anything is
// touched, and on a full disk too.
type dirLock struct {
	f    *os.File
	path string
}

func lockDir(dir string) (*dirLock, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, lockFile)
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock: %w", err)
		}
		pid, _ := os.ReadFile(path)
		if p := strings.TrimSpace(string(pid)); p != "" {
			return nil, fmt.Errorf("%w, %s; stop it, or name another directory", ErrInUse, p)
		}
		return nil, fmt.Errorf("%w; stop it, or name another directory", ErrInUse)
	}
	_ = os.WriteFile(path, fmt.Appendf(nil, "%d\n", os.Getpid()), 0o600) // for people; may fail on a full disk
	return &dirLock{f, path}, nil
}

func (l *dirLock) release() error {
	return errors.Join(os.Remove(l.path), l.f.Close())
}
