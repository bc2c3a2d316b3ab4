// Package sysctl reads settings of the kernel, and is the form in which those that work against the director are explained.
// It knows none by itself, and sets none unless it is asked to (Mend).
package sysctl

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// A Finding is something on the host that works against the director, and what a person can do about it.
type Finding struct {
	What     string    // the fact
	Why      string    // what goes wrong because of it
	Remedy   string    // what to do; empty where it is to make the Settings
	Settings []Setting // what mends it
}

func (f Finding) String() string {
	remedy := f.Remedy
	if remedy == "" {
		remedy = Command(f.Settings...)
	}
	return fmt.Sprintf("%s: %s; remedy: %s", f.What, f.Why, remedy)
}

// A Setting is a file below /proc/sys, and what to write into it.
type Setting struct {
	Path  string
	Value int
}

// Name is the setting in the words of sysctl(8), where an interface eth0.7 is eth0/7.
func (s Setting) Name() string { return strings.NewReplacer("/", ".", ".", "/").Replace(s.Path) }

// Command is what makes settings on a command line.
func Command(settings ...Setting) string {
	var b strings.Builder
	b.WriteString("sysctl -w")
	for _, s := range settings {
		fmt.Fprintf(&b, " %s=%d", s.Name(), s.Value)
	}
	return b.String()
}

// A Reader reads settings and remembers what could not be read.
type Reader struct {
	FS   fs.FS
	Errs []error
}

// Int is a setting's value, -1 if it cannot be read.
func (r *Reader) Int(path string) int {
	b, err := fs.ReadFile(r.FS, path)
	if err != nil {
		r.Errs = append(r.Errs, fmt.Errorf("check sysctl: %w", err))
		return -1
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		r.Errs = append(r.Errs, fmt.Errorf("check sysctl %s: %w", path, err))
		return -1
	}
	return n
}

// Optional is as Int, but a setting that this kernel does not have is no error.
func (r *Reader) Optional(path string) int {
	if _, err := fs.Stat(r.FS, path); errors.Is(err, fs.ErrNotExist) {
		return -1
	}
	return r.Int(path)
}

// Mend makes a finding's settings in the network namespace of the calling thread; proc is /proc/sys. A finding that has none
// needs a person, and is an error.
func Mend(proc string, f Finding) error {
	if len(f.Settings) == 0 {
		return fmt.Errorf("mend %s: no setting does; %s", f.What, f.Remedy)
	}
	var errs []error
	for _, s := range f.Settings {
		if err := write(filepath.Join(proc, s.Path), strconv.Itoa(s.Value)); err != nil {
			errs = append(errs, fmt.Errorf("mend %s: %w", f.What, err))
		}
	}
	return errors.Join(errs...)
}

func write(path, value string) error {
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteString(value)
	return errors.Join(err, file.Close())
}
