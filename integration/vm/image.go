package vm

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"

	"tunneldirector/integration/vm/cpio"
	"tunneldirector/integration/vm/debs"
)

// layout goes up when an image of the same description comes to hold something else.
const layout = 1

// description is all that decides what an image holds.
type description struct {
	Layout   int
	Kernel   string
	Packages []debs.Package
	Modules  []string
	Plain    map[string]string
	LeftOut  []string
}

// plain are files that packages leave to the installation.
var plain = map[string]string{
	"etc/passwd":        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
	"etc/group":         "root:x:0:\nnogroup:x:65534:\n",
	"etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\nprotocols: files\nservices: files\n",
	"etc/hosts":         "127.0.0.1 localhost\n::1 localhost\n",
	"etc/resolv.conf":   "", // pluto wants one
}

// image returns the first archive of a guest's file system: packages and kernel modules. It is built once and kept.
func image(ctx context.Context, dir string, kernel debs.Package, packages []debs.Package) (string, error) {
	d := description{Layout: layout, Kernel: kernel.ID, Packages: packages, Modules: moduleTrees, Plain: plain, LeftOut: leftOut}
	b, err := json.Marshal(d)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(b)
	name := filepath.Join(dir, "image-"+hex.EncodeToString(sum[:8])+".cpio")
	if _, err := os.Stat(name); err == nil {
		return name, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("look for the image: %w", err)
	}
	files, err := contents(ctx, kernel, packages)
	if err != nil {
		return "", fmt.Errorf("build the image: %w", err)
	}
	if err := write(name+".new", files); err != nil {
		return "", fmt.Errorf("build the image: %w", err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		return "", fmt.Errorf("build the image: %w", err)
	}
	return name, nil
}

// contents are the files of an image: all of the wanted packages, what these need of the others, the modules, and busybox
// under the names that nothing else has.
func contents(ctx context.Context, kernel debs.Package, packages []debs.Package) (tree, error) {
	wanted, all := tree{}, tree{}
	for _, p := range packages {
		if !p.Wanted {
			continue
		}
		if err := wanted.add(p, ""); err != nil {
			return nil, err
		}
	}
	for name, f := range wanted {
		all[name] = f
	}
	for _, p := range packages {
		if err := all.add(p, ""); err != nil {
			return nil, err
		}
	}
	var chosen []string
	for _, name := range wanted.names() {
		if !unread(name) {
			chosen = append(chosen, name)
		}
	}
	files, err := closure(all, chosen)
	if err != nil {
		return nil, err
	}
	if err := addModules(files, kernel); err != nil {
		return nil, err
	}
	return files, addApplets(ctx, files)
}

// addApplets adds a link to busybox for each of its commands that no package has.
func addApplets(ctx context.Context, files tree) error {
	const at = "usr/bin/busybox"
	busybox, ok := files[at]
	if !ok {
		return nil
	}
	out, err := exec.CommandContext(ctx, busybox.host, "--list-full").Output()
	if err != nil {
		return fmt.Errorf("list the commands of busybox: %w", err)
	}
	have := map[string]bool{} // by the command's name, wherever it lies
	for name := range files {
		if dir := path.Dir(name); dir == "usr/bin" || dir == "usr/sbin" {
			have[path.Base(name)] = true
		}
	}
	for line := range strings.Lines(string(out)) {
		if name := guestPath(strings.TrimSpace(line)); !have[path.Base(name)] {
			files[name] = file{link: "/" + at}
		}
	}
	return nil
}

// write makes the archive.
func write(name string, files tree) (err error) {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	buffer := bufio.NewWriterSize(f, 1<<20)
	w := cpio.NewWriter(buffer)
	for _, dir := range []string{"dev", "etc", "lab", "out", "proc", "root", "run", "sys", "tmp", "usr/bin", "usr/lib", "usr/lib64", "usr/sbin", "var/lib", "var/log"} {
		_ = w.Dir(dir) // the first failure is what all calls return
	}
	for _, dir := range merged {
		_ = w.Link(dir, "usr/"+dir)
	}
	_ = w.Link("var/run", "/run")
	for name, content := range plain {
		_ = w.File(name, 0o644, int64(len(content)), strings.NewReader(content))
	}
	for _, name := range files.names() {
		if err := put(w, name, files[name]); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	return buffer.Flush()
}

func put(w *cpio.Writer, name string, f file) error {
	if f.link != "" {
		return w.Link(name, f.link)
	}
	r, err := os.Open(f.host)
	if err != nil {
		return err
	}
	defer r.Close()
	return w.File(name, permissions(f.mode), f.size, r)
}

// permissions are the mode's bits as the kernel has them.
func permissions(mode fs.FileMode) uint32 {
	bits := uint32(mode.Perm())
	if mode&fs.ModeSetuid != 0 {
		bits |= 0o4000
	}
	if mode&fs.ModeSetgid != 0 {
		bits |= 0o2000
	}
	return bits
}
