package fault

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// mostBallast bounds the file, and the memory that it costs where the file system is in memory.
	mostBallast = 16 << 30
	// aside is what of a file system may be used by others than the directory's files: its own books.
	aside = 4 << 20
)

// Do makes the file.
func (b *Ballast) Do(_ context.Context, id string, _ time.Duration) (err error) {
	if err := b.own(); err != nil {
		return err
	}
	f, err := os.OpenFile(b.file(id), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	at, err := f.Seek(0, 2)
	if err != nil {
		return err
	}
	for chunk := int64(1 << 30); chunk >= 4096; {
		free, err := free(b.Dir)
		if err != nil {
			return err
		}
		if chunk = min(chunk, free-b.Rest); chunk < 4096 {
			return nil
		}
		if at+chunk > mostBallast {
			return fmt.Errorf("fill %s: it has room for more than %d GiB", b.Dir, mostBallast>>30)
		}
		switch err := unix.Fallocate(int(f.Fd()), 0, at, chunk); {
		case errors.Is(err, unix.ENOSPC):
			chunk /= 2
		case err != nil && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("fill %s: %w", b.Dir, err)
		case err == nil:
			at += chunk
		}
	}
	return nil
}

// Undo removes the file.
func (b *Ballast) Undo(_ context.Context, id string) error {
	if err := os.Remove(b.file(id)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// free is what root may still use, which is more than others may.
func free(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("ask for the room in %s: %w", dir, err)
	}
	return int64(st.Bfree) * st.Bsize, nil
}

// own says why a directory is not a file system of its own.
func (b *Ballast) own() error {
	device := func(path string) (uint64, error) {
		var st unix.Stat_t
		err := unix.Stat(path, &st)
		return st.Dev, err
	}
	dir, err := device(b.Dir)
	above, errAbove := device(filepath.Join(b.Dir, ".."))
	root, errRoot := device("/")
	if err := errors.Join(err, errAbove, errRoot); err != nil {
		return fmt.Errorf("fill %s: %w", b.Dir, err)
	}
	if !filepath.IsAbs(b.Dir) || dir == root || dir == above {
		return fmt.Errorf("%s is not the top of a file system of its own, which alone may be filled", b.Dir)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(b.Dir, &st); err != nil {
		return fmt.Errorf("ask for the room in %s: %w", b.Dir, err)
	}
	used, here, size := int64(st.Blocks-st.Bfree)*st.Bsize, int64(0), int64(st.Blocks)*st.Bsize
	err = filepath.WalkDir(b.Dir, func(_ string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) { // files come and go
			return nil
		}
		if err != nil {
			return err
		}
		if info, err := e.Info(); err == nil {
			here += info.Sys().(*syscall.Stat_t).Blocks * 512
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("look what is in %s: %w", b.Dir, err)
	}
	if others := used - here; others > max(aside, size/100) {
		return fmt.Errorf("%s shares its file system: %d MiB of it are somebody else's", b.Dir, others>>20)
	}
	return nil
}
