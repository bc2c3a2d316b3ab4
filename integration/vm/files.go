package vm

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"tunneldirector/integration/vm/debs"
)

// merged are the directories that Debian has below /usr while packages may still name them below /.
var merged = []string{"bin", "lib", "lib64", "sbin"}

// leftOut is what nobody reads in the guest.
var leftOut = []string{
	"usr/share/bash-completion", "usr/share/doc", "usr/share/info", "usr/share/lintian", "usr/share/locale", "usr/share/man", "usr/share/zsh",
}

// file is one that a package has; link is set for a symbolic link.
type file struct {
	host string
	link string
	mode fs.FileMode
	size int64
}

// tree is files by their paths in the guest, without a leading slash.
type tree map[string]file

// add puts a package's files into the tree, those below the given directory. Of two packages with the same path the first wins.
func (t tree) add(p debs.Package, below string) error {
	err := filepath.WalkDir(filepath.Join(p.Dir, below), func(host string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(p.Dir, host)
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		f := file{host: host, mode: info.Mode(), size: info.Size()}
		if e.Type() == fs.ModeSymlink {
			if f.link, err = os.Readlink(host); err != nil {
				return err
			}
		}
		if at := guestPath(rel); !t.has(at) {
			t[at] = f
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read package %s: %w", p.ID, err)
	}
	return nil
}

func (t tree) has(name string) bool {
	_, ok := t[name]
	return ok
}

// names are the tree's paths in order.
func (t tree) names() []string {
	names := make([]string, 0, len(t))
	for name := range t {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// guestPath is where a package's file lies in the guest.
func guestPath(name string) string {
	name = strings.TrimPrefix(path.Clean("/"+filepath.ToSlash(name)), "/")
	top, _, below := strings.Cut(name, "/")
	if below && slices.Contains(merged, top) {
		return "usr/" + name
	}
	return name
}

// target is the path that a link at name leads to.
func target(name, link string) string {
	if !path.IsAbs(link) {
		link = path.Join(path.Dir(name), link)
	}
	return guestPath(link)
}

// unread tells whether a path is nothing for a guest.
func unread(name string) bool {
	return slices.ContainsFunc(leftOut, func(dir string) bool { return strings.HasPrefix(name, dir+"/") })
}
