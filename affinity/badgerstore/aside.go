package badgerstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const asidePrefix = "aside-"

// MoveAside puts a closed store's files into a directory of their own below its directory, which is an empty store then, and
// names it. What begins with "aside-", ends in ".json", or is called "journal" stays: it is not the store's. So does the ballast,
// which holds room for whatever store is there, and the "lost+found" of a file system of its own, which only root may move.
func MoveAside(dir string, now time.Time) (to string, err error) {
	lock, err := lockDir(dir)
	if err != nil {
		return "", fmt.Errorf("move store %s aside: %w", dir, err)
	}
	defer func() { err = errors.Join(err, lock.release()) }()
	name := filepath.Join(dir, asidePrefix+now.UTC().Format("20060102T150405Z"))
	to = name
	err = os.Mkdir(to, 0o700)
	for n := 2; errors.Is(err, fs.ErrExist); n++ { // it was done a moment ago
		to = fmt.Sprint(name, "-", n)
		err = os.Mkdir(to, 0o700)
	}
	if err != nil {
		return "", fmt.Errorf("move store %s aside: %w", dir, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", fmt.Errorf("move store %s aside: %w", dir, err)
	}
	// FORMAT goes last: until then a crash leaves what opens as neither store nor empty, and is done again by hand.
	for _, last := range []bool{false, true} {
		for _, e := range entries {
			name := e.Name()
			if name == lockFile || name == ballastFile || name == lostFound || beside(name) || (name == formatFile) != last {
				continue
			}
			if err := os.Rename(filepath.Join(dir, name), filepath.Join(to, name)); err != nil {
				return "", fmt.Errorf("move store %s aside: %w", dir, err)
			}
		}
	}
	return to, errors.Join(syncPath(to), syncPath(dir))
}

// beside tells whether a name in a store's directory is not the store's.
func beside(name string) bool {
	return strings.HasPrefix(name, asidePrefix) || strings.HasSuffix(name, ".json") || name == "journal" || name == "faults"
}
