package blackbox

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"tunneldirector/director/plane"
	"tunneldirector/integration/spaces"
)

// A disk that is full ends the recording with what it took, and nothing else; when there is room, recordings are written again.
func TestFullDisk(t *testing.T) {
	disk, err := os.Open(spaces.Disk(t, 256<<10))
	check(t, err)
	defer disk.Close()
	dir := fmt.Sprintf("/proc/self/fd/%d", disk.Fd()) // this goroutine's mount, for all
	filler := filepath.Join(dir, "filler")
	check(t, os.WriteFile(filler, make([]byte, 100<<10), 0o600))
	synctest.Test(t, func(t *testing.T) {
		w := run(t, Options{Dir: filepath.Join(dir, "blackbox")})
		w.trigger("real-server", "rs1", "rs1 is dead")
		for range 2000 {
			w.drop(plane.DropDead, 1500)
		}
		time.Sleep(after)
		l := w.list()
		if len(l.Recordings) != 1 || l.Recordings[0].Open || !strings.Contains(l.Error, unix.ENOSPC.Error()) {
			t.Fatalf("on a full disk there is %+v", l)
		}
		if c := w.read(l.Recordings[0].ID); len(c.packets) < 300 {
			t.Errorf("%d packets were kept", len(c.packets))
		}
		if _, err := w.Record(t.Context(), "ann", "the disk is nearly full"); err == nil {
			t.Log("the rest was enough for the samples in memory")
		}
		check(t, os.Remove(filler))
		time.Sleep(time.Minute)
		rec, err := w.Record(t.Context(), "ann", "there is room")
		check(t, err)
		time.Sleep(after + time.Second)
		if l := w.list(); l.Error != "" || len(w.read(rec.ID).packets) != keptOfReason {
			t.Errorf("with room there is %+v", l)
		}
	})
}
