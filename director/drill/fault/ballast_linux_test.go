package fault

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tunneldirector/integration/spaces"
)

func TestBallast(t *testing.T) {
	dir := spaces.Disk(t, 32<<20)
	check(t, os.WriteFile(filepath.Join(dir, "table"), make([]byte, 10<<20), 0o600))
	b := &Ballast{Dir: dir, Rest: 1 << 20}
	for range 2 {
		check(t, b.Do(t.Context(), "f", time.Second))
		if rest, err := free(dir); err != nil || rest < 1<<20 || rest > 1<<20+64<<10 {
			t.Errorf("%d bytes are free: %v", rest, err)
		}
	}
	check(t, os.WriteFile(filepath.Join(dir, "more"), make([]byte, 1<<19), 0o600))
	full := &Ballast{Dir: dir}
	check(t, full.Do(t.Context(), "g", time.Second))
	if err := os.WriteFile(filepath.Join(dir, "most"), make([]byte, 1<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("a full disk takes more: %v", err)
	}
	for _, f := range []*Ballast{b, full} {
		for _, id := range []string{"f", "g", "never made"} {
			check(t, f.Undo(t.Context(), id))
		}
	}
	if rest, err := free(dir); err != nil || rest < 20<<20 {
		t.Errorf("%d bytes are free afterwards: %v", rest, err)
	}
}

// Where others have files nothing is filled.
func TestBallastRefused(t *testing.T) {
	dir := spaces.Disk(t, 32<<20)
	sub, bound := filepath.Join(dir, "sub"), t.TempDir()
	check(t, os.Mkdir(sub, 0o700))
	check(t, os.WriteFile(filepath.Join(dir, "others"), make([]byte, 8<<20), 0o600))
	spaces.Mount(t, sub, bound, "", unix.MS_BIND, "")
	before, err := free(dir)
	check(t, err)
	for name, tt := range map[string]struct{ dir, words string }{
		"the root's file system": {t.TempDir(), "of its own"}, "a directory below": {sub, "of its own"}, "the root": {"/", "of its own"},
		"a part of one": {bound, "8 MiB of it are somebody else's"},
	} {
		if err := (&Ballast{Dir: tt.dir}).Do(t.Context(), "f", time.Second); err == nil || !strings.Contains(err.Error(), tt.words) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if after, err := free(dir); err != nil || after != before {
		t.Errorf("%d bytes are free, before %d: %v", after, before, err)
	}
	if err := (&Ballast{Dir: filepath.Join(dir, "none")}).Do(t.Context(), "f", time.Second); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
}
