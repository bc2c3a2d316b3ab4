package realserver

import (
	"os/exec"
	"testing"
	"time"
)

// TestProcessEnds: the end of a process is told at once, of each once, and of none that is not watched any more.
func TestProcessEnds(t *testing.T) {
	var pids []int
	var children []*exec.Cmd
	for range 3 {
		c := exec.Command("sleep", "60")
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
		children, pids = append(children, c), append(pids, c.Process.Pid)
	}
	ended := make(chan int, 10)
	p := newProcesses(func(pid int) { ended <- pid })
	p.watch(append(pids, 1<<30)) // the last one does not exist
	p.watch(pids[:2])
	for _, i := range []int{2, 0} {
		if err := children[i].Process.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case pid := <-ended:
		if pid != pids[0] {
			t.Errorf("%d is told, want %d of %v", pid, pids[0], pids)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("nothing is told")
	}
	p.watch(pids[:2]) // a zombie still has its number; it is not told again and again
	p.close()
	if len(ended) > 1 {
		t.Errorf("%d more are told", len(ended))
	}
}
