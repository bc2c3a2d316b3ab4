package vm

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// archive is a tar archive of one entry.
func archiveOf(t testing.TB, name, text string, kind byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	h := &tar.Header{Name: name, Typeflag: kind, Size: int64(len(text)), Mode: 0o644}
	if kind == tar.TypeSymlink {
		h.Linkname, h.Size = text, 0
	}
	if err := w.WriteHeader(h); err != nil {
		t.Fatal(err)
	}
	if kind == tar.TypeReg {
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestUnpackOut(t *testing.T) {
	for _, c := range []struct {
		name, file string
		kind       byte
		kept, ok   bool
	}{
		{name: "a file", file: "logs/a", kind: tar.TypeReg, kept: true, ok: true},
		{name: "a link leads elsewhere", file: "logs/a", kind: tar.TypeSymlink, ok: true},
		{name: "a file outside", file: "../logs/a", kind: tar.TypeReg},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "below", "out")
			err := unpackOut(dir, bytes.NewReader(archiveOf(t, c.file, "text", c.kind)))
			if (err == nil) != c.ok {
				t.Errorf("error %v", err)
			}
			b, err := os.ReadFile(filepath.Join(dir, c.file))
			if kept := err == nil && string(b) == "text"; kept != c.kept {
				t.Errorf("kept: %v, want %v", kept, c.kept)
			}
		})
	}
	t.Run("nothing", func(t *testing.T) {
		if err := unpackOut(t.TempDir(), bytes.NewReader(nil)); err != nil {
			t.Error(err)
		}
	})
	t.Run("cut off", func(t *testing.T) {
		b := archiveOf(t, "a", "text", tar.TypeReg)
		if err := unpackOut(t.TempDir(), bytes.NewReader(b[:513])); err == nil {
			t.Error("no error")
		}
	})
}

// FuzzUnpackOut: whatever the guest sends, nothing comes to be beside the directory.
func FuzzUnpackOut(f *testing.F) {
	f.Add(archiveOf(f, "logs/a", "text", tar.TypeReg))
	f.Add(archiveOf(f, "../a", "text", tar.TypeReg))
	f.Fuzz(func(t *testing.T, in []byte) {
		dir := t.TempDir()
		_ = unpackOut(filepath.Join(dir, "out"), bytes.NewReader(in)) // an error is one answer to nonsense
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) != 1 {
			t.Errorf("beside the directory: %v, %v", entries, err)
		}
	})
}
