package xdp

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"tunneldirector/director/plane"
)

const bpffs = "/sys/fs/bpf"

// checkKernel refuses kernels and processes that cannot do it, and says what is missing.
func checkKernel() error {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return fmt.Errorf("ask for the kernel's version: %w", err)
	}
	release := string(uts.Release[:bytes.IndexByte(uts.Release[:], 0)])
	if !newEnough(release) {
		return fmt.Errorf("open plane xdp: kernel %s is too old, 6.1 is needed: %w", release, plane.ErrUnsupported)
	}
	missing, err := missingCapabilities()
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		return fmt.Errorf("open plane xdp: the process lacks %s; give it these (systemd: AmbientCapabilities=), or run it as root: %w",
			strings.Join(missing, ", "), plane.ErrUnsupported)
	}
	return nil
}

func newEnough(release string) bool {
	major, rest, _ := strings.Cut(release, ".")
	minor, _, _ := strings.Cut(rest, ".")
	minor, _, _ = strings.Cut(minor, "-")
	a, err1 := strconv.Atoi(major)
	b, err2 := strconv.Atoi(minor)
	return err1 == nil && err2 == nil && (a > 6 || a == 6 && b >= 1)
}

// missingCapabilities names what the effective set lacks. CAP_SYS_ADMIN stands for CAP_BPF and CAP_PERFMON.
func missingCapabilities() ([]string, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return nil, fmt.Errorf("ask for capabilities: %w", err)
	}
	has := func(c int) bool { return data[c/32].Effective&(1<<(c%32)) != 0 }
	var missing []string
	for _, c := range []struct {
		number int
		name   string
		admin  bool
	}{{unix.CAP_BPF, "CAP_BPF", true}, {unix.CAP_PERFMON, "CAP_PERFMON", true}, {unix.CAP_NET_ADMIN, "CAP_NET_ADMIN", false}} {
		if !has(c.number) && !(c.admin && has(unix.CAP_SYS_ADMIN)) {
			missing = append(missing, c.name)
		}
	}
	return missing, nil
}

// makePinPath makes dir, and mounts bpffs at its usual place if dir is to be there and nothing is mounted.
func makePinPath(dir string) (mounted bool, err error) {
	under, err := filepath.Rel(bpffs, dir)
	usual := err == nil && under != ".." && !strings.HasPrefix(under, "../")
	if is, err := isBPFFS(bpffs); usual && err == nil && !is {
		if err := unix.Mount("bpf", bpffs, "bpf", 0, "mode=0700"); err != nil {
			return false, fmt.Errorf("mount bpffs at %s (needs CAP_SYS_ADMIN; or mount it beforehand): %w", bpffs, err)
		}
		mounted = true
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return mounted, fmt.Errorf("make pin path: %w", err)
	}
	is, err := isBPFFS(dir)
	if err == nil && !is {
		err = fmt.Errorf("%s is not in a bpffs; mount one there (mount -t bpf bpf DIR) or choose a path in %s", dir, bpffs)
	}
	return mounted, err
}

func isBPFFS(dir string) (bool, error) {
	var fs unix.Statfs_t
	err := unix.Statfs(dir, &fs)
	if errors.Is(err, unix.ENOENT) {
		return false, fmt.Errorf("%s does not exist: this kernel has no bpffs: %w", dir, plane.ErrUnsupported)
	}
	return err == nil && fs.Type == unix.BPF_FS_MAGIC, err
}
