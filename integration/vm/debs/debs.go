// Package debs keeps Debian packages in a directory: downloaded by the host's apt and checked by its keys, unpacked, never
// installed. Nothing of the host is changed and nothing but apt's sources, keys and proxies is read from it, so neither root
// nor an up-to-date host is needed.
//
// Below the directory: apt/ is apt's own state, <name>_<version>_<architecture>/ is a package unpacked, and want-<hash> holds
// what a list of wanted packages came to. All of it appears by rename, so an interrupted run leaves nothing half done.
package debs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Package is one unpacked package.
type Package struct {
	Name   string // the Debian name
	ID     string // name_version_architecture, as in the file's name
	Wanted bool   // asked for by name; the others are what these depend on
	Dir    string `json:"-"` // holds the package's files by their paths
}

// Cache keeps packages below a directory. One process at a time may use it: see Lock.
type Cache struct {
	dir    string
	logger *slog.Logger
	pause  time.Duration // before what needs the network is tried again; doubled each time
	// Unpacked, where set, is called once for each package after its files are unpacked into dir and before others see them.
	Unpacked func(ctx context.Context, id, dir string) error
}

// New returns the cache below dir, which need not exist.
func New(dir string, logger *slog.Logger) *Cache {
	return &Cache{dir: dir, logger: logger, pause: 2 * time.Second}
}

// Get returns the wanted packages and all they depend on, in a fixed order, downloading what is not there yet. Each wanted
// package is resolved by itself, so that two may be had that exclude each other when installed. What has once been had
// stays at its versions until the directory is removed: then no network is used.
func (c *Cache) Get(ctx context.Context, wanted ...string) ([]Package, error) {
	wanted = slices.Compact(slices.Sorted(slices.Values(wanted)))
	return c.get(ctx, wanted, func(Package) bool { return true })
}

// Kernel returns the newest kernel that a meta package such as linux-image-cloud-amd64 stands for, without the tools that
// an installed one takes to boot.
func (c *Cache) Kernel(ctx context.Context, meta string) (Package, error) {
	packages, err := c.get(ctx, []string{meta}, func(p Package) bool {
		return p.Name != meta && strings.HasPrefix(p.Name, "linux-image-")
	})
	if err != nil {
		return Package{}, err
	}
	if len(packages) != 1 {
		return Package{}, fmt.Errorf("find the kernel of %s: it depends on %d packages linux-image-*", meta, len(packages))
	}
	return packages[0], nil
}

// get returns those of the resolved packages that are needed.
func (c *Cache) get(ctx context.Context, wanted []string, needed func(Package) bool) ([]Package, error) {
	sum := sha256.Sum256([]byte(strings.Join(wanted, "\n")))
	list := filepath.Join(c.dir, "want-"+hex.EncodeToString(sum[:8]))
	if packages, ok := c.have(list); ok {
		return packages, nil
	}
	if err := c.update(ctx); err != nil {
		return nil, err
	}
	packages, err := c.resolve(ctx, wanted)
	if err != nil {
		return nil, err
	}
	packages = slices.DeleteFunc(packages, func(p Package) bool { return !needed(p) })
	if err := c.fetch(ctx, packages); err != nil {
		return nil, err
	}
	b, err := json.MarshalIndent(packages, "", "\t")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(list+".new", b, 0o644); err != nil {
		return nil, fmt.Errorf("keep the list of packages: %w", err)
	}
	if err := os.Rename(list+".new", list); err != nil {
		return nil, fmt.Errorf("keep the list of packages: %w", err)
	}
	return packages, nil
}

// have reads the list of an earlier run, which was written when all its packages were there. A list that cannot be read, or
// whose packages are gone, is made again.
func (c *Cache) have(list string) ([]Package, bool) {
	b, err := os.ReadFile(list)
	if err != nil {
		return nil, false
	}
	var packages []Package
	if err := json.Unmarshal(b, &packages); err != nil {
		return nil, false
	}
	for i := range packages {
		packages[i].Dir = filepath.Join(c.dir, packages[i].ID)
		if _, err := os.Stat(packages[i].Dir); err != nil {
			return nil, false
		}
	}
	return packages, true
}

// fetch downloads and unpacks what is not there yet.
func (c *Cache) fetch(ctx context.Context, packages []Package) error {
	var missing []string
	for i, p := range packages {
		packages[i].Dir = filepath.Join(c.dir, p.ID)
		if _, err := os.Stat(packages[i].Dir); errors.Is(err, fs.ErrNotExist) {
			missing = append(missing, p.ID)
		} else if err != nil {
			return fmt.Errorf("look for package %s: %w", p.ID, err)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	files, err := c.download(ctx, missing)
	if err != nil {
		return err
	}
	for i, id := range missing {
		if err := c.unpack(ctx, id, files[i]); err != nil {
			return err
		}
	}
	return nil
}

// unpack makes the directory of a package from its file, and removes the file.
func (c *Cache) unpack(ctx context.Context, id, file string) error {
	tmp, err := os.MkdirTemp(c.dir, "unpacking-")
	if err != nil {
		return fmt.Errorf("unpack %s: %w", id, err)
	}
	defer os.RemoveAll(tmp)
	if err := os.Chmod(tmp, 0o755); err != nil {
		return fmt.Errorf("unpack %s: %w", id, err)
	}
	if _, err := c.command(ctx, c.dir, "dpkg-deb", "-x", file, tmp); err != nil {
		return fmt.Errorf("unpack %s: %w", id, err)
	}
	if c.Unpacked != nil {
		if err := c.Unpacked(ctx, id, tmp); err != nil {
			return fmt.Errorf("unpack %s: %w", id, err)
		}
	}
	if err := os.Rename(tmp, filepath.Join(c.dir, id)); err != nil {
		return fmt.Errorf("unpack %s: %w", id, err)
	}
	if err := os.Remove(file); err != nil {
		return fmt.Errorf("unpack %s: %w", id, err)
	}
	return nil
}
