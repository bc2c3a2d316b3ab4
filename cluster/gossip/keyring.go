package gossip

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
)

// KeySize is the size of new keys: AES-256.
const KeySize = 32

// maxKeys on a ring. Each key is tried on what the first does not open.
const maxKeys = 8

// A Keyring is the file with the keys that all directors of a cluster share: one per line in base64, the first seals and all
// open. A key is changed without a gap by Add on every director, then Use on every director, then Remove on every director.
//
// The file is the truth: another process may change it, and Reread takes the change over. Keys never appear in errors.
type Keyring struct {
	path string
	keys atomic.Pointer[[][]byte]
	mu   sync.Mutex // one change at a time
	seen stamp      // the file that keys were read from
}

// OpenKeyring reads a keyring file. One that others than its owner may read or write is refused.
func OpenKeyring(path string) (*Keyring, error) {
	k := &Keyring{path: path}
	if _, err := k.Reread(); err != nil {
		return nil, err
	}
	return k, nil
}

// CreateKeyring makes a keyring file of the keys, or of a new one if there are none. A file that is there is an error (fs.ErrExist).
func CreateKeyring(path string, keys ...[]byte) (*Keyring, error) {
	if len(keys) == 0 {
		keys = [][]byte{NewKey()}
	}
	if err := validate(keys); err != nil {
		return nil, fmt.Errorf("create keyring %s: %w", path, err)
	}
	if err := writeNew(path, format(keys)); err != nil {
		return nil, fmt.Errorf("create keyring %s: %w", path, err)
	}
	return OpenKeyring(path)
}

// NewKey makes a random key.
func NewKey() []byte {
	key := make([]byte, KeySize)
	rand.Read(key) // never fails
	return key
}

// Fingerprint names a key without saying it.
func Fingerprint(key []byte) string {
	sum := sha256.Sum256(append([]byte("tunneldirector-keyring\x00"), key...))
	return hex.EncodeToString(sum[:6])
}

// Keys are all keys, the one that seals first. They must not be changed.
func (k *Keyring) Keys() [][]byte { return *k.keys.Load() }

// Reread takes over what the file says now, and tells whether it differs. On an error the keys stay as they were. It is cheap as
// long as the file is the same.
func (k *Keyring) Reread() (changed bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.reread()
}

func (k *Keyring) reread() (bool, error) {
	data, seen, err := readKept(k.path, k.seen)
	if errors.Is(err, errSame) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read keyring: %w", err)
	}
	keys, err := ParseKeys(data)
	if err != nil {
		return false, fmt.Errorf("read keyring %s: %w", k.path, err)
	}
	old := k.keys.Swap(&keys)
	k.seen = seen
	return old == nil || !slices.EqualFunc(*old, keys, bytes.Equal), nil
}

// Add puts a key at the end of the ring: it opens from now on. One that is there stays where it is.
func (k *Keyring) Add(key []byte) error {
	return k.change("add to", func(keys [][]byte) ([][]byte, error) {
		if index(keys, key) >= 0 {
			return keys, nil
		}
		return append(keys, bytes.Clone(key)), nil
	})
}

// Use makes a key that is on the ring the one that seals. All directors must have it by then.
func (k *Keyring) Use(key []byte) error {
	return k.change("use a key of", func(keys [][]byte) ([][]byte, error) {
		i := index(keys, key)
		if i < 0 {
			return nil, fmt.Errorf("key %s is not on it: add it on every director first: director cluster keyring add", Fingerprint(key))
		}
		return slices.Insert(slices.Delete(keys, i, i+1), 0, bytes.Clone(key)), nil
	})
}

// Remove takes a key off the ring; not the one that seals. One that is not there is no error.
func (k *Keyring) Remove(key []byte) error {
	return k.change("remove from", func(keys [][]byte) ([][]byte, error) {
		switch i := index(keys, key); {
		case i == 0:
			return nil, fmt.Errorf("key %s is the one that seals: use another one first: director cluster keyring use", Fingerprint(key))
		case i > 0:
			return slices.Delete(keys, i, i+1), nil
		}
		return keys, nil
	})
}

// change writes the file anew. What it says at the time is what is changed.
func (k *Keyring) change(act string, f func([][]byte) ([][]byte, error)) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	err := func() error {
		if _, err := k.reread(); err != nil {
			return err
		}
		keys, err := f(slices.Clone(k.Keys()))
		if err != nil {
			return err
		}
		if err := validate(keys); err != nil {
			return err
		}
		if err := replace(k.path, format(keys)); err != nil {
			return err
		}
		_, err = k.reread()
		return err
	}()
	if err != nil {
		return fmt.Errorf("%s keyring %s: %w", act, k.path, err)
	}
	return nil
}

// ParseKeys reads the text of a keyring file. Empty lines are skipped.
func ParseKeys(text []byte) ([][]byte, error) {
	var keys [][]byte
	for i, line := range bytes.Split(text, []byte("\n")) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		key, err := base64.StdEncoding.Strict().DecodeString(string(line))
		if err != nil {
			return nil, fmt.Errorf("line %d is not base64", i+1)
		}
		if index(keys, key) >= 0 {
			return nil, fmt.Errorf("line %d is a key that is there already", i+1)
		}
		keys = append(keys, key)
	}
	return keys, validate(keys)
}

func validate(keys [][]byte) error {
	switch {
	case len(keys) == 0:
		return errors.New("no key is left")
	case len(keys) > maxKeys:
		return fmt.Errorf("%d keys: at most %d are taken", len(keys), maxKeys)
	}
	for i, key := range keys {
		if n := len(key); n != 16 && n != 24 && n != 32 {
			return fmt.Errorf("key %d has %d bytes: an AES key has 16, 24 or 32", i+1, n)
		}
	}
	return nil
}

func format(keys [][]byte) []byte {
	var text []byte
	for _, key := range keys {
		text = append(base64.StdEncoding.AppendEncode(text, key), '\n')
	}
	return text
}

func index(keys [][]byte, key []byte) int {
	return slices.IndexFunc(keys, func(k []byte) bool { return bytes.Equal(k, key) })
}
