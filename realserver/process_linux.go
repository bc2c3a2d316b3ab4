package realserver

import (
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// processes tells when one of a set of processes ends, at once and without asking again and again. The kernel's descriptor of a
// process (pidfd_open(2)) cannot mean another one of the same number.
type processes struct {
	tell  func(pid int)
	ended chan struct{} // poked when one ended
	open  map[int]*os.File
	wg    sync.WaitGroup
}

func newProcesses(tell func(pid int)) *processes {
	return &processes{tell: tell, ended: make(chan struct{}, 1), open: map[int]*os.File{}}
}

// watch makes pids the set. One that cannot be watched is not: looking finds out, later.
func (p *processes) watch(pids []int) {
	for pid, f := range p.open {
		if !slices.Contains(pids, pid) || over(f) {
			_ = f.Close()
			delete(p.open, pid)
		}
	}
	for _, pid := range pids {
		if p.open[pid] != nil {
			continue
		}
		fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
		if err != nil {
			continue
		}
		f := os.NewFile(uintptr(fd), "pidfd")
		p.open[pid] = f
		p.wg.Go(func() {
			if waitOver(f) {
				p.tell(pid)
				poke(p.ended)
			}
		})
	}
}

func (p *processes) close() {
	p.watch(nil)
	p.wg.Wait()
}

// waitOver blocks until a process is over, true, or its descriptor is closed.
func waitOver(f *os.File) bool {
	c, err := f.SyscallConn()
	if err != nil {
		return false
	}
	ended := false
	err = c.Read(func(fd uintptr) bool { ended = readable(fd); return ended })
	return err == nil && ended
}

func over(f *os.File) (is bool) {
	c, err := f.SyscallConn()
	return err != nil || c.Control(func(fd uintptr) { is = readable(fd) }) != nil || is
}

func readable(fd uintptr) bool {
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(poll, 0)
	return err == nil && n == 1
}
