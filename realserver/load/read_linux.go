package load

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"tunneldirector/realserver/space"
	"tunneldirector/realserver/terminator"
)

// read asks the kernel for all that work is about. What is gone is left out. known are the threads as they were: one that did not run
// since is not asked how long it waited.
func read(ctx context.Context, in space.Space, work terminator.Work, known map[taskID]*thread) (r reading, err error) {
	var f files
	b, err := f.read("/proc/stat")
	if err == nil {
		r.cores, err = parseCores(b)
	}
	errs := []error{err}
	r.processes, r.threads = map[taskID]task{}, map[taskID]threadNow{}
	var allowed unix.CPUSet
	for _, pid := range work.Processes {
		if ctx.Err() != nil {
			return r, errors.Join(append(errs, ctx.Err())...)
		}
		errs = append(errs, f.readProcess(&r, pid, &allowed, known))
	}
	r.allowed = allowed.Count()
	if len(work.Sockets) > 0 || len(work.Devices) > 0 {
		errs = append(errs, in.Do(func() error {
			var socks, devs error
			r.sockets, socks = readSockets(ctx, work.Sockets)
			r.devices, devs = readDevices(ctx, work.Devices)
			return errors.Join(socks, devs)
		}))
	}
	return r, errors.Join(errs...)
}

// files reads small files into one buffer.
type files struct{ buf []byte }

// read reads a file of /proc. What it returns is good until the next.
func (f *files) read(path string) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	if f.buf == nil {
		f.buf = make([]byte, 4096)
	}
	for n := 0; ; {
		if n == len(f.buf) {
			f.buf = append(f.buf, make([]byte, n)...)
		}
		got, err := unix.Read(fd, f.buf[n:])
		switch {
		case err == unix.EINTR:
		case err != nil:
			return nil, &fs.PathError{Op: "read", Path: path, Err: err}
		case got == 0:
			return f.buf[:n], nil
		default:
			n += got
		}
	}
}

// gone tells whether an error says that a process or thread is not there any more.
func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) }

func (f *files) readProcess(r *reading, pid int, allowed *unix.CPUSet, known map[taskID]*thread) error {
	dir := "/proc/" + strconv.Itoa(pid)
	process, err := f.task(dir)
	if gone(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read process %d: %w", pid, err)
	}
	r.processes[taskID{pid: pid, start: process.start}] = process
	var set unix.CPUSet
	if unix.SchedGetaffinity(pid, &set) == nil {
		for i := range set {
			allowed[i] |= set[i]
		}
	}
	if err := f.readThreads(r, pid, dir+"/task/", known); err != nil && !gone(err) {
		return fmt.Errorf("read threads of process %d: %w", pid, err)
	}
	return nil
}

func (f *files) readThreads(r *reading, pid int, dir string, known map[taskID]*thread) error {
	tids, err := threadIDs(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, tid := range tids {
		path := dir + strconv.Itoa(tid)
		t, err := f.task(path)
		if err != nil {
			if !gone(err) {
				errs = append(errs, err)
			}
			continue
		}
		id, now := taskID{pid: pid, tid: tid, start: t.start}, threadNow{task: t}
		if k := known[id]; k != nil && k.last.ticks == t.ticks {
			now.wait = k.last.wait
		} else if b, err := f.read(path + "/schedstat"); err == nil { // a kernel without CONFIG_SCHED_INFO has none
			if now.wait, err = parseWait(b); err != nil {
				errs = append(errs, err)
			}
		}
		r.threads[id] = now
	}
	return errors.Join(errs...)
}

func (f *files) task(dir string) (task, error) {
	b, err := f.read(dir + "/stat")
	if err != nil {
		return task{}, err
	}
	return parseTask(b)
}

func threadIDs(dir string) ([]int, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	tids := make([]int, 0, len(names))
	for _, name := range names {
		if tid, err := strconv.Atoi(name); err == nil {
			tids = append(tids, tid)
		}
	}
	return tids, err
}
