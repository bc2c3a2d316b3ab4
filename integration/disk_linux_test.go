package integration

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tunneldirector/director/api"
	"tunneldirector/integration/daemon"
	"tunneldirector/integration/lab"
)

// TestFullDisk: writes are refused with a reason, reads and forwarding go on, and writes resume when there is room.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		newRig(t, lab.Options{}, "") // which says what it needs
	}
	disk := t.TempDir()
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=768m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(disk, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	r := newRig(t, lab.Options{Sites: 3}, filepath.Join(disk, "data"))
	end := r.send(r.Sites...)
	filler := filepath.Join(disk, "filler")
	fill(t, disk, filler)
	var p *api.Problem
	i := 0
	r.until(30*time.Second, "wait for a refusal", func() error {
		_, err := r.d.Client.PutTunnel(r.ctx, daemon.Filler(i))
		i++
		if !errors.As(err, &p) {
			return fmt.Errorf("push %d: %v, want a problem", i, err)
		}
		return nil
	})
	t.Log(p)
	if p.Status != 507 && p.Status != 503 || !strings.Contains(p.Error(), "free") {
		t.Errorf("refused with status %d: %v; want 503 or 507 and what to free", p.Status, p)
	}
	if st := r.status(); st.Writable || st.NotWritable == "" || len(st.Alarms) == 0 {
		t.Errorf("status says writable: %t, %q, alarms %q", st.Writable, st.NotWritable, st.Alarms)
	}
	if got := r.tunnel(r.Sites[0]); got.Placement == nil || got.Placement.RealServer == "" {
		t.Errorf("read: got %+v", got)
	}
	r.rest(500 * time.Millisecond)
	r.must("make room", os.Remove(filler))
	r.until(30*time.Second, "wait for writes", func() error {
		_, err := r.d.Client.PutTunnel(r.ctx, daemon.Filler(i))
		return err
	})
	if st := r.status(); !st.Writable {
		t.Errorf("with room again: not writable: %s", st.NotWritable)
	}
	r.lossless(end, "while the disk was full")
}

// fill leaves a megabyte.
func fill(t *testing.T, disk, path string) {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(disk, &st); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(path)
	if err == nil {
		err = unix.Fallocate(int(f.Fd()), 0, 0, int64(st.Bavail)*st.Bsize-1<<20)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatalf("fill the disk: %v", err)
	}
}
