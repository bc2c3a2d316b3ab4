package vm

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestSweep: old directories of jobs and old images go, but the image in use and all else stay.
func TestSweep(t *testing.T) {
	dir := t.TempDir()
	old := time.Now().Add(-48 * time.Hour)
	for _, name := range []string{"job-old", "job-new", "image-old.cpio", "image-new.cpio", "image-used.cpio", "out-old"} {
		at := filepath.Join(dir, name)
		if err := os.Mkdir(at, 0o755); err != nil {
			t.Fatal(err)
		}
		if filepath.Base(name) != "job-new" && name != "image-new.cpio" {
			if err := os.Chtimes(at, old, old); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := sweep(dir, filepath.Join(dir, "image-used.cpio")); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range left {
		left[i] = filepath.Base(left[i])
	}
	if diff := cmp.Diff([]string{"image-new.cpio", "image-used.cpio", "job-new", "out-old"}, left); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
}
