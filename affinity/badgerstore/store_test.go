package badgerstore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/google/go-cmp/cmp"

	"tunneldirector/affinity"
)

func openTest(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(t.Context(), Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func closeTest(t *testing.T, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func commit(t *testing.T, s *Store, revision uint64, recs ...Record) {
	t.Helper()
	if err := s.Commit(recs, revision); err != nil {
		t.Fatal(err)
	}
}

// loadAll gives "kind key" -> value and the order.
func loadAll(t *testing.T, s *Store) (map[string]string, []string) {
	t.Helper()
	m := map[string]string{}
	var order []string
	err := s.Load(func(r Record) error {
		k := string(r.Kind) + " " + r.Key
		m[k] = string(r.Value)
		order = append(order, k)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return m, order
}

func rec(k affinity.Kind, key, value string) Record {
	return Record{Kind: k, Key: key, Value: []byte(value)}
}

func TestCommitAndLoad(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "here")
	s := openTest(t, dir)
	commit(t, s, 7, rec('t', "b", "1"), rec('t', "a", "2"), rec('s', "z", "3"), rec('p', "", "4"), rec('t', "gone", "5"), rec('t', "empty", ""))
	commit(t, s, 8, rec('t', "a", "first"), rec('t', "a", "second"), Record{Kind: 't', Key: "gone"}, Record{Kind: 't', Key: "never"})
	want := map[string]string{"t b": "1", "t a": "second", "s z": "3", "p ": "4", "t empty": ""}
	wantOrder := []string{"p ", "s z", "t a", "t b", "t empty"}
	for _, step := range []string{"at once", "after a restart"} {
		got, order := loadAll(t, s)
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", step, d)
		}
		if d := cmp.Diff(wantOrder, order); d != "" {
			t.Errorf("%s, order (-want +got):\n%s", step, d)
		}
		closeTest(t, s)
		s = openTest(t, dir)
	}
	closeTest(t, s)
}

func TestMeta(t *testing.T) {
	dir := t.TempDir()
	var id string
	for boot := uint64(1); boot <= 3; boot++ {
		s := openTest(t, dir)
		m := s.Meta()
		if boot == 1 {
			id = m.ID
		}
		want := Meta{ID: id, Boot: boot, Format: Format, Revision: 100 * (boot - 1)}
		if m != want || len(id) != 32 {
			t.Errorf("meta %+v, want %+v", m, want)
		}
		commit(t, s, 100*boot)
		if got := s.Meta().Revision; got != 100*boot {
			t.Errorf("revision %d, want %d", got, 100*boot)
		}
		closeTest(t, s)
	}
}

func TestLargeCommit(t *testing.T) {
	dir := t.TempDir()
	s := openTest(t, dir)
	recs := bulk(3*AtomicRecords + 1)
	for i := range recs {
		recs[i].Value = fmt.Appendf(nil, "%d", i)
	}
	recs = append(recs, Record{Kind: recs[5].Kind, Key: recs[5].Key, Value: []byte("later")})
	commit(t, s, 9, recs...)
	closeTest(t, s)
	s = openTest(t, dir)
	defer closeTest(t, s)
	got, _ := loadAll(t, s)
	if len(got) != len(recs)-1 || got["t "+recs[5].Key] != "later" || got["t "+recs[3*AtomicRecords].Key] != fmt.Sprint(3*AtomicRecords) {
		t.Errorf("%d records, want %d; the one written twice is %q", len(got), len(recs)-1, got["t "+recs[5].Key])
	}
	if r := s.Meta().Revision; r != 9 {
		t.Errorf("revision %d, want 9", r)
	}
}

// What is promised to be atomic must fit a transaction of badger's, with the store's own records.
func TestAtomicLimitsFit(t *testing.T) {
	s := openTest(t, t.TempDir())
	defer closeTest(t, s)
	if n := s.db.MaxBatchCount(); n < AtomicRecords+10 {
		t.Errorf("a transaction takes %d entries, %d are promised", n, AtomicRecords)
	}
	if n := s.db.MaxBatchSize(); n < AtomicBytes+20*AtomicRecords+maxValue {
		t.Errorf("a transaction takes %d bytes, %d are promised", n, AtomicBytes)
	}
	big := make([]Record, 9)
	for i := range big {
		big[i] = Record{Kind: 't', Key: fmt.Sprint(i), Value: make([]byte, maxValue)}
	}
	commit(t, s, 1, big...)
	if got, _ := loadAll(t, s); len(got) != len(big) {
		t.Errorf("%d records, want %d", len(got), len(big))
	}
}

func TestExpiry(t *testing.T) {
	s := openTest(t, t.TempDir())
	defer closeTest(t, s)
	before := time.Now()
	commit(t, s, 1, Record{Kind: 't', Key: "stone", Value: []byte("x"), ExpireAfter: 30 * 24 * time.Hour}, rec('t', "stays", "y"))
	past := &badger.Entry{Key: []byte("told"), Value: frame(nil, []byte("told"), nil), ExpiresAt: uint64(before.Add(-time.Second).Unix())}
	if err := s.db.Update(func(txn *badger.Txn) error { return txn.SetEntry(past) }); err != nil {
		t.Fatal(err)
	}
	left := map[string]time.Duration{}
	if err := s.Load(func(r Record) error { left[r.Key] = r.ExpireAfter; return nil }); err != nil {
		t.Fatal(err)
	}
	if _, ok := left["old"]; ok || len(left) != 2 || left["stays"] != 0 {
		t.Errorf("left %v, want stone and stays, the latter for ever", left)
	}
	if d := left["stone"] - 30*24*time.Hour; d < -time.Minute || d > 2*time.Second {
		t.Errorf("the tombstone stays %v, want 30 days", left["stone"])
	}
}

func TestCommitRefuses(t *testing.T) {
	s := openTest(t, t.TempDir())
	defer closeTest(t, s)
	tests := []struct {
		name string
		rec  Record
		want string
	}{
		{"no kind", Record{Key: "a", Value: []byte("x")}, `"a" has no kind`},
		{"long key", rec('t', strings.Repeat("k", maxKey+1), "x"), "limit is 1024"},
		{"long value", rec('t', "a", strings.Repeat("v", maxValue+1)), "limit is 262144"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := s.Commit([]Record{rec('t', "good", "x"), tt.rec}, 5)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
			if got, _ := loadAll(t, s); len(got) != 0 || s.Meta().Revision != 0 {
				t.Errorf("%d records were written, revision %d", len(got), s.Meta().Revision)
			}
		})
	}
}

func TestLoadStops(t *testing.T) {
	s := openTest(t, t.TempDir())
	defer closeTest(t, s)
	commit(t, s, 1, rec('t', "a", "x"), rec('t', "b", "x"))
	stop := errors.New("stop")
	n := 0
	if err := s.Load(func(Record) error { n++; return stop }); !errors.Is(err, stop) || n != 1 {
		t.Errorf("error %v after %d records", err, n)
	}
}

func TestOpenRefuses(t *testing.T) {
	tests := []struct {
		name  string
		files map[string]string
		want  error
		text  string
	}{
		{"newer format", map[string]string{"FORMAT": "tunneldirector-store 2\n"}, ErrNewerFormat, "upgrade"},
		{"garbage for a format", map[string]string{"FORMAT": "x"}, ErrDamaged, "move the directory aside"},
		{"somebody else's", map[string]string{"letters.txt": "x"}, ErrForeign, "letters.txt"},
		{"somebody else's badger", map[string]string{"MANIFEST": "x"}, ErrForeign, "MANIFEST"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range tt.files {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			_, err := Open(t.Context(), Options{Dir: dir})
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) || !strings.Contains(err.Error(), dir) {
				t.Errorf("error %v, want %v with %q", err, tt.want, tt.text)
			}
			left, err := os.ReadDir(dir)
			if err != nil || len(left) != len(tt.files) {
				t.Errorf("the directory was changed: %v, error %v", left, err)
			}
		})
	}
	if _, err := Open(t.Context(), Options{}); err == nil {
		t.Error("no directory was accepted")
	}
	if _, err := Open(t.Context(), Options{Dir: t.TempDir(), Reserve: 1}); err == nil {
		t.Error("a reserve of one byte was accepted")
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Options{Dir: file}); err == nil {
		t.Error("a file was accepted for a directory")
	}
}
