package vm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"tunneldirector/integration/vm/debs"
)

// ErrUnavailable: this machine has no guest to offer: it lacks a program, or its apt cannot get Debian's packages.
var ErrUnavailable = errors.New("no virtual machine to be had here")

// prepared is what boots need that does not change between them.
type prepared struct {
	root   string // of the module
	dir    string // build/vm below it
	kernel string
	image  string
	accel  string
	qemu   func(ctx context.Context, args ...string) *exec.Cmd
}

// prepare has the packages, the image and qemu ready; a second process waits for the first.
func prepare(ctx context.Context, kernel Kernel, further []string, logger *slog.Logger) (prepared, error) {
	root, err := moduleRoot(ctx)
	if err != nil {
		return prepared{}, err
	}
	p := prepared{root: root, dir: filepath.Join(root, "build", "vm")}
	unlock, err := debs.Lock(p.dir)
	if err != nil {
		return prepared{}, err
	}
	defer unlock()
	cache := debs.New(filepath.Join(p.dir, "debs"), logger)
	packages, err := cache.Get(ctx, slices.Concat(Software, further)...)
	if err != nil {
		return prepared{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	cache.Unpacked = func(ctx context.Context, id, dir string) error { return depmod(ctx, packages, id, dir) }
	k, err := cache.Kernel(ctx, string(kernel))
	if err != nil {
		return prepared{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	p.kernel = filepath.Join(k.Dir, "boot", "vmlinuz-"+release(k))
	if _, err := os.Stat(p.kernel); err != nil {
		return prepared{}, fmt.Errorf("find the kernel of package %s: %w", k.ID, err)
	}
	if p.image, err = image(ctx, p.dir, k, packages); err != nil {
		return prepared{}, err
	}
	if p.qemu, err = qemu(ctx, cache); err != nil {
		return prepared{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if p.accel, err = accelerator(ctx, p); err != nil {
		return prepared{}, err
	}
	return p, sweep(p.dir, p.image)
}

// qemu is the host's, or that of Debian's packages.
func qemu(ctx context.Context, cache *debs.Cache) (func(ctx context.Context, args ...string) *exec.Cmd, error) {
	const name = "qemu-system-x86_64"
	if at, err := exec.LookPath(name); err == nil {
		return func(ctx context.Context, args ...string) *exec.Cmd { return exec.CommandContext(ctx, at, args...) }, nil
	}
	packages, err := cache.Get(ctx, "qemu-system-x86")
	if err != nil {
		return nil, err
	}
	firmware, modules := []string{}, ""
	for _, p := range packages {
		for _, dir := range []string{"usr/share/qemu", "usr/share/seabios"} {
			if at := filepath.Join(p.Dir, dir); isDir(at) {
				firmware = append(firmware, "-L", at)
			}
		}
		if at := filepath.Join(p.Dir, "usr/lib/x86_64-linux-gnu/qemu"); isDir(at) {
			modules = at
		}
	}
	program, err := command(ctx, packages, "usr/bin/"+name, name, firmware...)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, args ...string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, program.Path, slices.Concat(program.Args[1:], args)...)
		cmd.Env = append(os.Environ(), "QEMU_MODULE_DIR="+modules)
		return cmd
	}, nil
}

// sweep removes what jobs left that were killed, and images that nobody used for a while.
func sweep(dir, image string) error {
	const unused = 24 * time.Hour
	now := time.Now()
	if err := os.Chtimes(image, now, now); err != nil {
		return fmt.Errorf("keep the image: %w", err)
	}
	for _, pattern := range []string{"job-*", "image-*"} {
		names, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return err
		}
		for _, name := range names {
			info, err := os.Stat(name)
			if err != nil || now.Sub(info.ModTime()) < unused { // another process may remove its own
				continue
			}
			if err := os.RemoveAll(name); err != nil {
				return fmt.Errorf("remove what is not used: %w", err)
			}
		}
	}
	return nil
}

func isDir(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.IsDir()
}
