package gossip

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// key is a key of one byte, repeated.
func key(b byte) []byte { return bytes.Repeat([]byte{b}, KeySize) }

func newRing(t *testing.T, keys ...[]byte) *Keyring {
	t.Helper()
	k, err := CreateKeyring(filepath.Join(t.TempDir(), "keyring"), keys...)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestKeyringChanges(t *testing.T) {
	k := newRing(t, key(1))
	other, err := OpenKeyring(k.path) // as the daemon has it while the command changes it
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		name string
		do   func() error
		want [][]byte
	}{
		{"add", func() error { return k.Add(key(2)) }, [][]byte{key(1), key(2)}},
		{"add again", func() error { return k.Add(key(2)) }, [][]byte{key(1), key(2)}},
		{"add by the other", func() error { return other.Add(key(3)) }, [][]byte{key(1), key(2), key(3)}},
		{"use", func() error { return k.Use(key(2)) }, [][]byte{key(2), key(1), key(3)}},
		{"remove", func() error { return k.Remove(key(1)) }, [][]byte{key(2), key(3)}},
		{"remove what is not there", func() error { return k.Remove(key(9)) }, [][]byte{key(2), key(3)}},
	} {
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		for _, ring := range []*Keyring{k, other} {
			if _, err := ring.Reread(); err != nil {
				t.Fatalf("%s: %v", step.name, err)
			}
			if d := cmp.Diff(step.want, ring.Keys()); d != "" {
				t.Errorf("after %s: %s", step.name, d)
			}
		}
		if changed, err := k.Reread(); changed || err != nil {
			t.Errorf("after %s: the same file is a change (%v)", step.name, err)
		}
	}
	info, err := os.Stat(k.path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if left, _ := os.ReadDir(filepath.Dir(k.path)); len(left) != 1 {
		t.Errorf("files are left behind: %v", left)
	}
}

func TestKeyringRefuses(t *testing.T) {
	k := newRing(t, key(1), key(2))
	for _, tt := range []struct {
		name string
		do   func() error
		want string
	}{
		{"use what is not there", func() error { return k.Use(key(7)) }, "add it on every director first"},
		{"remove the first", func() error { return k.Remove(key(1)) }, "use another one first"},
		{"a short key", func() error { return k.Add(key(1)[:15]) }, "15 bytes"},
		{"a ring that is there", func() error { _, err := CreateKeyring(k.path); return err }, "file exists"},
		{"a wide mode", func() error {
			defer os.Chmod(k.path, 0o600)
			if err := os.Chmod(k.path, 0o640); err != nil {
				return err
			}
			_, err := k.Reread()
			return err
		}, "mode 0640"},
		{"a directory", func() error { _, err := OpenKeyring(filepath.Dir(k.path)); return err }, "is not a file"},
		{"no file", func() error { _, err := OpenKeyring(k.path + "x"); return err }, "no such file"},
		{"too big a file", func() error {
			path := filepath.Join(t.TempDir(), "big")
			if err := os.WriteFile(path, make([]byte, maxFile+1), 0o600); err != nil {
				return err
			}
			_, err := OpenKeyring(path)
			return err
		}, "more than"},
	} {
		err := tt.do()
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %q", tt.name, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), base64.StdEncoding.EncodeToString(key(1))) {
			t.Errorf("%s: the error has a key in it", tt.name)
		}
	}
	if _, err := CreateKeyring(k.path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("error %v, want fs.ErrExist", err)
	}
	if d := cmp.Diff([][]byte{key(1), key(2)}, k.Keys()); d != "" {
		t.Errorf("what was refused changed the ring: %s", d)
	}
	if _, err := k.Reread(); err != nil { // the mode is as it was
		t.Error(err)
	}
}

func TestFingerprint(t *testing.T) {
	if Fingerprint(key(1)) == Fingerprint(key(2)) || len(Fingerprint(key(1))) != 12 {
		t.Errorf("fingerprints %s and %s", Fingerprint(key(1)), Fingerprint(key(2)))
	}
	if bytes.Equal(NewKey(), NewKey()) {
		t.Error("new keys are the same")
	}
}

func FuzzParseKeys(f *testing.F) {
	f.Add([]byte(""))
	f.Add(format([][]byte{key(1)}))
	f.Add(format([][]byte{key(1), key(2)[:16], key(3)[:24]}))
	f.Add([]byte("AAAA\n\n  AAAA"))
	f.Fuzz(func(t *testing.T, text []byte) {
		keys, err := ParseKeys(text)
		if err != nil {
			for line := range strings.Lines(string(text)) {
				if line = strings.TrimSpace(line); len(line) > 12 && strings.Contains(err.Error(), line) {
					t.Errorf("the error says the line: %v", err)
				}
			}
			return
		}
		again, err := ParseKeys(format(keys))
		if d := cmp.Diff(keys, again); d != "" || err != nil {
			t.Errorf("written and read again: %v %s", err, d)
		}
	})
}
