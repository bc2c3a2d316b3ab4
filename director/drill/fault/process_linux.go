package fault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"tunneldirector/realserver/space"
)

// find is a process as it is now; false: there is none.
func find(pid int) (Process, bool, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return Process{}, false, err
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return Process{}, false, nil
	}
	if err != nil {
		return Process{}, false, err
	}
	// The name, in brackets, may have anything in it. Behind it the state is field 3, and the start field 22: proc_pid_stat(5).
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 20 {
		return Process{}, false, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields)+2)
	}
	at, err := strconv.ParseUint(string(fields[19]), 10, 64)
	return Process{PID: pid, Start: at, Boot: strings.TrimSpace(string(boot))}, err == nil, err
}

func stop(list []Process) (int, error)   { return signal(list, unix.SIGSTOP) }
func resume(list []Process) (int, error) { return signal(list, unix.SIGCONT) }
func kill(list []Process) (int, error)   { return signal(list, unix.SIGKILL) }

// signal tells how many were there.
func signal(list []Process, s unix.Signal) (reached int, _ error) {
	var errs []error
	for _, p := range list {
		there, err := p.signal(s)
		if err != nil {
			errs = append(errs, fmt.Errorf("send %s to process %d: %w", unix.SignalName(s), p.PID, err))
		}
		if there {
			reached++
		}
	}
	return reached, errors.Join(errs...)
}

// signal sends by a descriptor, which means this process whatever becomes of its number (pidfd_send_signal(2)).
func (p Process) signal(s unix.Signal) (there bool, _ error) {
	fd, err := unix.PidfdOpen(p.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	if now, there, err := find(p.PID); err != nil || !there || now != p {
		return false, err
	}
	if err := unix.PidfdSendSignal(fd, s, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return true, err
	}
	return true, nil
}

// start runs a program to its end. What it starts has no terminal, and nothing of ours, and outlives us.
func start(ctx context.Context, in string, argv []string) error {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Cancel = func() error {
		if err := unix.Kill(-cmd.Process.Pid, unix.SIGKILL); !errors.Is(err, unix.ESRCH) { // not waited for yet, so the number is its own
			return err
		}
		return os.ErrProcessDone
	}
	if err := space.Space(in).Do(cmd.Start); err != nil {
		return err
	}
	err := cmd.Wait()
	if ctx.Err() != nil {
		return fmt.Errorf("it does not end: %w", context.Cause(ctx))
	}
	return err
}
