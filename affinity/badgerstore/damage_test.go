package badgerstore

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dgraph-io/badger/v4"
)

// A store with tables on the disk, closed.
func storeWithTables(t *testing.T, dir string) {
	t.Helper()
	s := openTest(t, dir)
	commit(t, s, 1, bulk(30_000)...)
	closeTest(t, s)
	if l := tables(t, dir); len(l) == 0 {
		t.Fatal("the store has no tables")
	}
}

func tables(t *testing.T, dir string) []string {
	t.Helper()
	l, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestDamage(t *testing.T) {
	origin := t.TempDir()
	storeWithTables(t, origin)
	flip := func(at func(size int) int) func([]byte) []byte {
		return func(b []byte) []byte { b[at(len(b))] ^= 0x55; return b }
	}
	tests := []struct {
		name string
		file string // pattern
		how  func([]byte) []byte
	}{
		{"manifest empty", "MANIFEST", func([]byte) []byte { return nil }},
		{"manifest garbage", "MANIFEST", func(b []byte) []byte { return []byte(strings.Repeat("garbage", 30)) }},
		{"manifest flipped", "MANIFEST", flip(func(n int) int { return 20 })},
		{"manifest gone", "MANIFEST", nil},
		{"table gone", "*.sst", nil},
		{"table empty", "*.sst", func([]byte) []byte { return []byte{} }},
		{"table of 3 bytes", "*.sst", func(b []byte) []byte { return b[:3] }},
		{"table cut in half", "*.sst", func(b []byte) []byte { return b[:len(b)/2] }},
		{"table zeroed", "*.sst", func(b []byte) []byte { clear(b); return b }},
		{"table's end zeroed", "*.sst", func(b []byte) []byte { clear(b[len(b)-4096:]); return b }},
		{"first byte", "*.sst", flip(func(n int) int { return 0 })},
		{"byte in a block", "*.sst", flip(func(n int) int { return n / 2 })},
		{"byte in a block's end", "*.sst", flip(func(n int) int { return 4090 })},
		{"byte in the index", "*.sst", flip(func(n int) int { return n - 60 })},
		{"byte in the index's length", "*.sst", flip(func(n int) int { return n - 20 })},
		{"byte in the checksum", "*.sst", flip(func(n int) int { return n - 6 })},
		{"last byte", "*.sst", flip(func(n int) int { return n - 1 })},
		{"key registry garbage", "KEYREGISTRY", func([]byte) []byte { return []byte("garbage garbage garbage garbage") }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(origin)); err != nil {
				t.Fatal(err)
			}
			l, err := filepath.Glob(filepath.Join(dir, tt.file))
			if err != nil || len(l) == 0 {
				t.Fatalf("no %s, error %v", tt.file, err)
			}
			damage(t, l[0], tt.how)
			_, err = Open(t.Context(), Options{Dir: dir})
			if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "move the directory aside") || !strings.Contains(err.Error(), dir) {
				t.Errorf("error %v, want one of damage that names %s and the remedy", err, dir)
			}
		})
	}
	closeTest(t, openTest(t, origin))
}

func damage(t *testing.T, path string, how func([]byte) []byte) {
	t.Helper()
	if how == nil {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		return
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, how(b), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Every single byte of a table's tail, where badger would end the process rather than return an error.
func TestDamagedTailNeverPanics(t *testing.T) {
	dir := t.TempDir()
	storeWithTables(t, dir)
	path := tables(t, dir)[0]
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := 1; i <= 64; i++ {
		b := append([]byte(nil), good...)
		b[len(b)-i] ^= 0xff
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := checkTable(path); err == nil {
			t.Errorf("a changed byte %d before the end was not noticed", i)
		}
	}
}

func TestDamagedValue(t *testing.T) {
	s := openTest(t, t.TempDir())
	defer closeTest(t, s)
	commit(t, s, 1, rec('t', "a", "x"), rec('t', "site-7", "x"))
	for _, value := range []string{"\x00\x00\x00\x00x", "abc", ""} {
		err := s.db.Update(func(txn *badger.Txn) error { return txn.Set([]byte("tsite-7"), []byte(value)) })
		if err != nil {
			t.Fatal(err)
		}
		err = s.Load(func(Record) error { return nil })
		if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), `tunnel "site-7"`) {
			t.Errorf("value %q: error %v, want one of damage that names the record", value, err)
		}
	}
}
