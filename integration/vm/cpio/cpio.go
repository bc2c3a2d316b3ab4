// Package cpio writes archives of the "newc" format, which a Linux kernel unpacks into its first file system
// (Documentation/driver-api/early-userspace/buffer-format.rst in the kernel's sources). Archives may follow one another in
// one file; of a path that comes twice the last one stays.
package cpio

import (
	"fmt"
	"io"
	"path"
	"strings"
)

// File types, as in stat(2).
const (
	typeDir     = 0o040000
	typeRegular = 0o100000
	typeLink    = 0o120000
)

// trailer is the name that ends an archive.
const trailer = "TRAILER!!!"

// Writer writes one archive. Directories above a path come by themselves. After an error all further calls fail with it.
type Writer struct {
	w    io.Writer
	dirs map[string]bool
	ino  uint32
	err  error
}

// NewWriter returns a Writer that writes to w; wrap it in a bufio.Writer if small writes are dear.
func NewWriter(w io.Writer) *Writer {
	return &Writer{w: w, dirs: map[string]bool{".": true}}
}

// Dir adds a directory of mode 0755, once, and those above it.
func (w *Writer) Dir(name string) error {
	name = clean(name)
	if w.dirs[name] {
		return w.err
	}
	w.dirs[name] = true
	if err := w.Dir(path.Dir(name)); err != nil {
		return err
	}
	return w.entry(name, typeDir|0o755, 0, nil)
}

// Link adds a symbolic link.
func (w *Writer) Link(name, target string) error {
	return w.below(name, typeLink|0o777, int64(len(target)), strings.NewReader(target))
}

// File adds a regular file of the given permissions: exactly size bytes of content.
func (w *Writer) File(name string, permissions uint32, size int64, content io.Reader) error {
	return w.below(name, typeRegular|permissions&0o7777, size, content)
}

// Close ends the archive; it does not close what it is written to.
func (w *Writer) Close() error {
	return w.entry(trailer, 0, 0, nil)
}

func (w *Writer) below(name string, mode uint32, size int64, content io.Reader) error {
	name = clean(name)
	if err := w.Dir(path.Dir(name)); err != nil {
		return err
	}
	return w.entry(name, mode, size, content)
}

// entry writes one header of 13 hexadecimal fields, the name and the content; both end at a multiple of four bytes.
func (w *Writer) entry(name string, mode uint32, size int64, content io.Reader) error {
	if w.err != nil {
		return w.err
	}
	if size < 0 || size > 1<<32-1 {
		w.err = fmt.Errorf("archive %s: %d bytes do not fit into an archive of this format", name, size)
		return w.err
	}
	w.ino++
	links := 1
	if mode&typeDir != 0 && mode&typeRegular == 0 {
		links = 2
	}
	header := fmt.Sprintf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		w.ino, mode, 0, 0, links, 0, size, 0, 0, 0, 0, len(name)+1, 0, name)
	header += padding(int64(len(header)))
	if _, w.err = io.WriteString(w.w, header); w.err != nil || size == 0 {
		return w.err
	}
	if _, err := io.CopyN(w.w, content, size); err != nil {
		w.err = fmt.Errorf("archive %s: %w", name, err)
		return w.err
	}
	_, w.err = io.WriteString(w.w, padding(size))
	return w.err
}

func padding(n int64) string {
	return "\x00\x00\x00"[:(4-n%4)%4]
}

// clean makes a path relative to the root, as the kernel wants it.
func clean(name string) string {
	name = strings.TrimPrefix(path.Clean("/"+name), "/")
	if name == "" {
		return "."
	}
	return name
}
