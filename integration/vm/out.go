package vm

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
)

// unpackOut puts what the guest left into dir, regular files only, none of them outside of dir. An archive that was never
// begun is empty. Without a directory all is read and forgotten, for the guest waits until it is read.
func unpackOut(dir string, r io.Reader) error {
	if dir == "" {
		_, err := io.Copy(io.Discard, r)
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("keep what the guest left: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("keep what the guest left: %w", err)
	}
	defer root.Close()
	archive := tar.NewReader(r)
	for {
		h, err := archive.Next()
		if err == io.EOF {
			_, err = io.Copy(io.Discard, r)
			return err
		}
		if err == nil && h.Typeflag == tar.TypeReg {
			err = keep(root, h.Name, archive)
		}
		if err != nil {
			return fmt.Errorf("keep what the guest left: %w", err)
		}
	}
}

func keep(root *os.Root, name string, r io.Reader) (err error) {
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := root.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = io.Copy(f, r)
	return err
}

// keepConsole writes the console's end beside what the guest left.
func keepConsole(dir string, console *tail) error {
	if dir == "" {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("keep the console: %w", err)
	}
	return os.WriteFile(filepath.Join(dir, "console.log"), bytes.ReplaceAll([]byte(console.String()), []byte("\r"), nil), 0o644)
}
