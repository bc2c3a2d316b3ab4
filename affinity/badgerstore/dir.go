package badgerstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Format is the version of the directory's layout: FORMAT, the framing of values, and badger's files.
const Format = 1

const (
	formatFile  = "FORMAT"
	formatWord  = "tunneldirector-store"
	lockFile    = "LOCK" // badger's name for it
	ballastFile = "BALLAST"
	lostFound   = "lost+found" // the root directory of a file system has it
)

// prepareDir makes dir where it is missing and sees that this process may use it.
func prepareDir(dir string) error {
	if dir == "" {
		return errors.New("no directory was named")
	}
	err := os.MkdirAll(dir, 0o700)
	if err == nil {
		err = mayUse(dir)
	}
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w for user %d; make the directory belong to the user that the director runs as", err, os.Geteuid())
	}
	return err
}

// checkFormat refuses a directory that is neither empty nor a store of a known format. It changes nothing.
func checkFormat(dir string) error {
	b, err := os.ReadFile(filepath.Join(dir, formatFile))
	if errors.Is(err, fs.ErrNotExist) {
		return checkEmpty(dir)
	}
	if err != nil {
		return err
	}
	word, number, _ := strings.Cut(strings.TrimSpace(string(b)), " ")
	n, err := strconv.Atoi(number)
	if word != formatWord || err != nil || n < 1 {
		return damaged(formatFile, fmt.Errorf("%.40q is not %q", b, formatWord+" 1"))
	}
	if n > Format {
		return fmt.Errorf("format %d, this program reads up to %d: %w; upgrade this director, or name another directory", n, Format, ErrNewerFormat)
	}
	return nil
}

func checkEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if beside(e.Name()) {
			continue
		}
		switch e.Name() {
		case lockFile, ballastFile, formatFile + ".new", lostFound:
		default:
			return fmt.Errorf("%s is there but no %s: %w; name an empty directory, or move it aside", e.Name(), formatFile, ErrForeign)
		}
	}
	return nil
}

// writeFormat makes dir a store, once.
func writeFormat(dir string) error {
	path := filepath.Join(dir, formatFile)
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	f, err := os.Create(path + ".new")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%s %d\n", formatWord, Format)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	return syncPath(dir)
}

func syncPath(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// allocated is how many bytes the store's files take on the disk, without the ballast: logs are sparse.
func allocated(dir string) int64 { return sumBlocks(dir, "") }

// roomToOpen is what opening or closing may write, compaction aside: the logs' content as tables, and new logs.
func roomToOpen(dir string) int64 { return sumBlocks(dir, ".mem") + 2*memTable }

func sumBlocks(dir, suffix string) int64 {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0
	}
	var n int64
	for _, e := range entries {
		if e.Name() == ballastFile || !strings.HasSuffix(e.Name(), suffix) {
			continue
		}
		if info, err := e.Info(); err == nil {
			n += blocks(info)
		}
	}
	return n
}
