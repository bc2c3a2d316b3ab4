package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"tunneldirector/integration/vm/wire"
)

// openFiles is the limit on open files, as a service manager sets it for a daemon with many sockets.
const openFiles = 1 << 20

// mounts are made in this order; all of them have to be there.
var mounts = []struct{ kind, at, options string }{
	{"proc", "/proc", ""},
	{"sysfs", "/sys", ""},
	{"devtmpfs", "/dev", ""},
	{"devpts", "/dev/pts", ""},
	{"tmpfs", "/dev/shm", ""},
	{"tmpfs", "/run", ""},
	{"tmpfs", "/tmp", "mode=1777"},
	{"bpf", "/sys/fs/bpf", ""},
	{"cgroup2", "/sys/fs/cgroup", ""},
	{"debugfs", "/sys/kernel/debug", ""},
	{"tracefs", "/sys/kernel/tracing", ""},
}

func mount() error {
	for _, m := range mounts {
		if err := os.MkdirAll(m.at, 0o755); err != nil {
			return fmt.Errorf("mount %s: %w", m.at, err)
		}
		if err := unix.Mount(m.kind, m.at, m.kind, 0, m.options); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mount %s: %w", m.at, err)
		}
	}
	for _, dir := range []string{"/run/netns", "/run/lock", wire.Out} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := os.Symlink("/proc/self/fd", "/dev/fd"); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return nil
}

// prepare brings the machine to where a program may expect it after a boot.
func prepare() error {
	if err := unix.Sethostname([]byte("lab")); err != nil {
		return fmt.Errorf("set the name of the host: %w", err)
	}
	limit := unix.Rlimit{Cur: openFiles, Max: openFiles}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("set the limit of open files: %w", err)
	}
	if err := loopbackUp(); err != nil {
		return fmt.Errorf("set interface lo up: %w", err)
	}
	// Not all kernels have these as modules; without a port the host will tell.
	if out, err := exec.Command("/usr/sbin/modprobe", "-a", "virtio_pci", "virtio_console").CombinedOutput(); err != nil {
		say("load virtio_console: %v: %s", err, out)
	}
	return nil
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request)
}

// portTime is how long a port may take to get its name, which qemu tells after the driver has come up.
const portTime = 20 * time.Second

// port opens the virtio-serial port of a name; its device is found by its entry in sysfs, for want of udev.
func port(name string) (*os.File, error) {
	for deadline := time.Now().Add(portTime); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		entries, err := filepath.Glob("/sys/class/virtio-ports/*/name")
		if err != nil {
			return nil, err
		}
		for _, entry := range entries {
			b, err := os.ReadFile(entry)
			if err == nil && strings.TrimSpace(string(b)) == name {
				return os.OpenFile(filepath.Join("/dev", filepath.Base(filepath.Dir(entry))), os.O_WRONLY, 0)
			}
		}
	}
	return nil, fmt.Errorf("no virtio-serial port has the name %s after %s", name, portTime)
}

// environment is what programs start with.
func environment() []string {
	return []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C", "TMPDIR=/tmp"}
}

// kernel is the running kernel's release.
func kernel() string {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return ""
	}
	return unix.ByteSliceToString(name.Release[:])
}

// uptime is in seconds.
func uptime() float64 {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return 0
	}
	return float64(now.Nano()) / 1e9
}
