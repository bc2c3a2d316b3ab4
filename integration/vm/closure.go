package vm

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
)

// libraryDirs are where the guest's loader looks, by its own defaults (the image has no ld.so.cache).
var libraryDirs = []string{"usr/lib/x86_64-linux-gnu", "usr/lib", "usr/lib64"}

// closure returns the chosen files of all, and with them what they lead to: the targets of links, and the loader and the
// libraries of programs, found by their ELF headers as the loader finds them.
func closure(all tree, chosen []string) (tree, error) {
	out := tree{}
	for queue := chosen; len(queue) > 0; {
		name := queue[0]
		queue = queue[1:]
		f, ok := all[name]
		if !ok || out.has(name) { // a link may lead out of the packages, to /proc or to an alternative
			continue
		}
		out[name] = f
		if f.link != "" {
			queue = append(queue, target(name, f.link))
			continue
		}
		needed, err := libraries(all, name, f)
		if err != nil {
			return nil, fmt.Errorf("read what %s needs: %w", name, err)
		}
		queue = append(queue, needed...)
	}
	return out, nil
}

// libraries are the paths of what a file needs to be loaded; none if it is no ELF file.
func libraries(all tree, name string, f file) ([]string, error) {
	r, err := os.Open(f.host)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	magic := make([]byte, len(elf.ELFMAG))
	if _, err := r.ReadAt(magic, 0); errors.Is(err, io.EOF) || err == nil && string(magic) != elf.ELFMAG {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	e, err := elf.NewFile(r)
	if err != nil {
		return nil, err
	}
	if e.Type != elf.ET_EXEC && e.Type != elf.ET_DYN {
		return nil, nil // kernel modules, for one
	}
	var paths []string
	if s := e.Section(".interp"); s != nil {
		b, err := s.Data()
		if err != nil {
			return nil, err
		}
		paths = append(paths, guestPath(string(bytes.TrimRight(b, "\x00"))))
	}
	needed, err := e.ImportedLibraries()
	if err != nil {
		return nil, err
	}
	dirs, err := searched(e, name)
	if err != nil {
		return nil, err
	}
	for _, library := range needed {
		// Debian's packages have plugins whose libraries they merely recommend; who needs one hears it from the loader.
		if at, ok := find(all, dirs, library); ok {
			paths = append(paths, at)
		}
	}
	return paths, nil
}

// searched are the directories that the loader searches for the libraries of e, which lies at name.
func searched(e *elf.File, name string) ([]string, error) {
	var dirs []string
	for _, tag := range []elf.DynTag{elf.DT_RUNPATH, elf.DT_RPATH} {
		values, err := e.DynString(tag)
		if err != nil {
			return nil, err
		}
		for _, value := range values {
			for dir := range strings.SplitSeq(value, ":") {
				dirs = append(dirs, guestPath(strings.ReplaceAll(dir, "$ORIGIN", "/"+path.Dir(name))))
			}
		}
	}
	return append(dirs, libraryDirs...), nil
}

func find(all tree, dirs []string, library string) (string, bool) {
	for _, dir := range dirs {
		if at := path.Join(dir, library); all.has(at) {
			return at, true
		}
	}
	return "", false
}
