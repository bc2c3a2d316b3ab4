package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Dir is where labs keep what their processes see as /run and /sys/fs/bpf.
const Dir = "/run/td-lab"

const namespaces = "/run/netns"

// A directory is a lab's own, below Dir, under the name of the lab. A lock in it is held as long as the owner lives.
type directory struct {
	name, path string
	lock       *os.File
}

// newDirectory takes the first free name of this process.
func newDirectory() (*directory, error) {
	for n := 1; ; n++ {
		d := &directory{name: fmt.Sprintf("td-%d-%d", os.Getpid(), n)}
		d.path = filepath.Join(Dir, d.name)
		if err := os.MkdirAll(Dir, 0o700); err != nil {
			return nil, fmt.Errorf("make %s: %w", Dir, err)
		}
		err := os.Mkdir(d.path, 0o700)
		// Whoever tidies up may remove Dir between the two steps, if it is empty.
		if errors.Is(err, os.ErrExist) || errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("make a directory for the lab: %w", err)
		}
		d.lock, err = takeLock(d.path)
		if err == nil {
			return d, nil
		}
		// A Sweep elsewhere may come between the two steps, take the directory for a leftover and remove it.
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("lock %s: %w", d.path, err)
		}
	}
}

func (d *directory) of(role string) string { return filepath.Join(d.path, role) }

// takeLock locks a lab's directory; the error wraps unix.EWOULDBLOCK if its owner lives, and os.ErrNotExist if it went
// away meanwhile.
func takeLock(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	held, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	there, err := os.Stat(path)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if !os.SameFile(held, there) {
		return nil, errors.Join(os.ErrNotExist, f.Close())
	}
	return f, nil
}

// remove unmounts what is mounted below the directory and deletes it.
func (d *directory) remove() error {
	mounts, err := filepath.Glob(filepath.Join(d.path, "*", "bpf"))
	if err != nil {
		return err
	}
	var errs []error
	for _, m := range mounts {
		for { // until nothing is mounted there any more
			if err := unix.Unmount(m, unix.MNT_DETACH); errors.Is(err, unix.EINVAL) {
				break
			} else if err != nil {
				errs = append(errs, fmt.Errorf("unmount %s: %w", m, err))
				break
			}
		}
	}
	if len(errs) == 0 {
		errs = append(errs, os.RemoveAll(d.path))
	}
	return errors.Join(append(errs, d.lock.Close())...)
}

// Sweep removes what labs of processes that died left behind. Labs whose process lives are not touched.
func Sweep() error {
	entries, err := os.ReadDir(Dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("sweep labs: %w", err)
	}
	var errs []error
	for _, e := range entries {
		d := &directory{name: e.Name(), path: filepath.Join(Dir, e.Name())}
		d.lock, err = takeLock(d.path)
		if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err == nil {
			err = sweepOne(d)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("sweep lab %s: %w", d.name, err))
		}
	}
	return errors.Join(errs...)
}

func sweepOne(d *directory) error {
	errs := []error{killStrays(d.name + "-")}
	files, err := filepath.Glob(filepath.Join(namespaces, d.name+"-*"))
	errs = append(errs, err)
	for _, f := range files {
		if err := unix.Unmount(f, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
			errs = append(errs, fmt.Errorf("unmount %s: %w", f, err))
		}
		errs = append(errs, os.Remove(f))
	}
	return errors.Join(append(errs, d.remove())...)
}

// killStrays kills every process, this one excepted, that lives in a namespace whose name has the prefix.
func killStrays(prefix string) error {
	files, err := filepath.Glob(filepath.Join(namespaces, prefix+"*"))
	if err != nil {
		return err
	}
	ours := map[uint64]bool{}
	for _, f := range files {
		var st unix.Stat_t
		if unix.Stat(f, &st) == nil {
			ours[st.Ino] = true
		}
	}
	procs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil || len(ours) == 0 {
		return err
	}
	for _, p := range procs {
		pid, err := strconv.Atoi(strings.TrimPrefix(p, "/proc/"))
		var st unix.Stat_t
		if err != nil || pid == os.Getpid() || unix.Stat(p+"/ns/net", &st) != nil || !ours[st.Ino] {
			continue
		}
		if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("kill process %d: %w", pid, err)
		}
	}
	return nil
}
