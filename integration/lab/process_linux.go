package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A Process runs on one machine of the lab: in its network namespace, with a /run and a /sys/fs/bpf of the machine's own,
// which outlive the process as they would on a real machine. It dies with the lab and with the process that made the lab.
type Process struct {
	Cmd *exec.Cmd // set Env, Dir, Stdout ... before Start; start and wait by the Process only

	lab  *Lab
	ns   *Namespace
	done chan struct{}
	err  error // of Wait; read after done
}

// Command prepares a process on a machine.
func (l *Lab) Command(ns *Namespace, name string, args ...string) *Process {
	p := &Process{Cmd: exec.Command(name, args...), lab: l, ns: ns, done: make(chan struct{})}
	p.Cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	return p
}

// RunDir is the machine's /run as the rest of the world sees it: unix sockets in it can be dialled from anywhere.
func (n *Namespace) RunDir() string { return filepath.Join(n.dir, "run") }

// BPFDir is the machine's /sys/fs/bpf as the rest of the world sees it.
func (n *Namespace) BPFDir() string { return filepath.Join(n.dir, "bpf") }

// Start starts the process. A child is born into the namespaces of the thread that forks it, so a thread is spent on it,
// which stays until the child's end (the parent-death signal is the thread's).
func (p *Process) Start() error {
	if err := p.ns.prepare(); err != nil {
		return err
	}
	started := make(chan error, 1)
	go func() {
		defer close(p.done)
		runtime.LockOSThread() // never unlocked: nobody else may get this thread
		err := p.ns.enter()
		if err == nil {
			err = p.Cmd.Start()
		}
		if err != nil {
			p.err = fmt.Errorf("start %s in %s: %w", p.Cmd.Path, p.ns.Name, err)
			started <- p.err
			return
		}
		p.lab.remember(p)
		started <- nil
		p.err = p.Cmd.Wait()
		p.lab.forget(p)
	}()
	return <-started
}

// Wait blocks until the process has ended and returns what exec.Cmd.Wait does.
func (p *Process) Wait() error {
	<-p.done
	return p.err
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Run starts the process and waits for it.
func (p *Process) Run() error {
	if err := p.Start(); err != nil {
		return err
	}
	return p.Wait()
}

// Stop sends a signal and waits for the process to end; after the timeout it is killed, which is an error.
func (p *Process) Stop(sig os.Signal, timeout time.Duration) error {
	if err := p.Cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("send %s to %s: %w", sig, p.Cmd.Path, err)
	}
	select {
	case <-p.done:
		return p.err
	case <-time.After(timeout):
		p.Kill()
		return fmt.Errorf("stop %s in %s: killed after %s", p.Cmd.Path, p.ns.Name, timeout)
	}
}

// Kill kills the process and its process group and waits.
func (p *Process) Kill() {
	select {
	case <-p.done:
		return
	default:
	}
	// The group leader is not reaped before Wait returns, so the number is still its own; a race costs an ESRCH.
	_ = unix.Kill(-p.Cmd.Process.Pid, unix.SIGKILL)
	<-p.done
}

func (l *Lab) remember(p *Process) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.processes[p] = struct{}{}
}

func (l *Lab) forget(p *Process) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.processes, p)
}

func (l *Lab) running() []*Process {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []*Process
	for p := range l.processes {
		out = append(out, p)
	}
	return out
}

// prepare makes the machine's /run and mounts its BPF file system, once.
func (n *Namespace) prepare() error {
	for _, d := range []string{n.RunDir(), n.BPFDir()} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return fmt.Errorf("make a directory for %s: %w", n.Name, err)
		}
	}
	var st unix.Statfs_t
	if err := unix.Statfs(n.BPFDir(), &st); err != nil {
		return fmt.Errorf("look at %s: %w", n.BPFDir(), err)
	}
	if st.Type == unix.BPF_FS_MAGIC {
		return nil
	}
	if err := unix.Mount("bpf", n.BPFDir(), "bpf", 0, "mode=0700"); err != nil {
		return fmt.Errorf("mount a BPF file system for %s: %w", n.Name, err)
	}
	return nil
}

// enter moves the calling thread, for good, into the machine: its network, and a mount namespace in which /sys, /run and
// /sys/fs/bpf are the machine's.
func (n *Namespace) enter() error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return os.NewSyscallError("unshare", err)
	}
	if err := unix.Setns(int(n.handle), unix.CLONE_NEWNET); err != nil {
		return os.NewSyscallError("setns", err)
	}
	for _, m := range []struct {
		source, target, kind string
		flags                uintptr
	}{
		{"", "/", "", unix.MS_SLAVE | unix.MS_REC}, // unmounts outside still reach in, and nothing gets out
		{"sysfs", "/sys", "sysfs", 0},
		{n.BPFDir(), "/sys/fs/bpf", "", unix.MS_BIND},
		{n.RunDir(), "/run", "", unix.MS_BIND},
	} {
		if err := unix.Mount(m.source, m.target, m.kind, m.flags, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	return nil
}
