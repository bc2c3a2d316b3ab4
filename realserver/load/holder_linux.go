package load

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

var (
	errKernels = errors.New("no process of the terminator holds it: it is the kernel's own, as WireGuard's are, or another program's")
	errOther   = errors.New("the process has another file at its place by now")
)

// A holder is where a process has a socket.
type holder struct{ pid, fd int }

// findHolders looks through the open files of processes, for sockets by inode.
func findHolders(pids []int) (map[uint32]holder, error) {
	out := map[uint32]holder{}
	var errs []error
	for _, pid := range pids {
		dir := "/proc/" + strconv.Itoa(pid) + "/fd"
		files, err := os.ReadDir(dir)
		if err != nil && !gone(err) {
			errs = append(errs, fmt.Errorf("look for sockets of process %d, which takes CAP_SYS_PTRACE: %w", pid, err))
		}
		for _, f := range files {
			target, err := os.Readlink(dir + "/" + f.Name())
			if err != nil {
				continue
			}
			inode, ok := strings.CutPrefix(target, "socket:[")
			if !ok {
				continue
			}
			n, err := strconv.ParseUint(strings.TrimSuffix(inode, "]"), 10, 32)
			fd, bad := strconv.Atoi(f.Name())
			if err == nil && bad == nil {
				out[uint32(n)] = holder{pid, fd}
			}
		}
	}
	return out, errors.Join(errs...)
}

// with runs f with a duplicate of the holder's socket, and closes it at once: a socket that outlived its terminator would keep its port.
func (h holder) with(inode uint32, f func(fd int) error) error {
	pidfd, err := unix.PidfdOpen(h.pid, 0)
	if err != nil {
		return fmt.Errorf("open process %d: %w", h.pid, err)
	}
	defer unix.Close(pidfd)
	fd, err := unix.PidfdGetfd(pidfd, h.fd, 0)
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("reach into process %d, which takes CAP_SYS_PTRACE: %w", h.pid, err)
	}
	if err != nil {
		return fmt.Errorf("get file %d of process %d: %w", h.fd, h.pid, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if uint32(st.Ino) != inode || st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return errOther
	}
	return f(fd)
}
