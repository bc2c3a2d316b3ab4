package debs

import (
	"path/filepath"
	"testing"
	"time"
)

// TestLock: the second to come waits until the first has gone.
func TestLock(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "debs")
	unlock, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	second := make(chan error)
	go func() {
		unlock, err := Lock(dir)
		second <- err
		if err == nil {
			unlock()
		}
	}()
	select {
	case err := <-second:
		t.Fatalf("both have the lock: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	unlock()
	if err := <-second; err != nil {
		t.Fatal(err)
	}
}
