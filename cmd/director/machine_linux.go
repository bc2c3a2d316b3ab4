package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"tunneldirector/director/config"
	"tunneldirector/director/plane/ipvs"
	"tunneldirector/director/plane/ipvs/shadow"
)

const bpffs = "/sys/fs/bpf"

// hostFaults are about what this process may do here with a plane.
func hostFaults(cfg config.Config, kind string) (out config.Faults) {
	if p := unwritable(cfg.DataDir); p != "" {
		out = append(out, config.Fault{Path: "data_dir", Problem: p})
	}
	if kind == config.PlaneMem {
		return out
	}
	has, err := capabilities()
	if err != nil {
		return append(out, config.Fault{Path: "plane", Problem: err.Error()})
	}
	missing := missingCapabilities(has, kind)
	if len(missing) > 0 {
		out = append(out, config.Fault{Path: "plane", Problem: fmt.Sprintf("the process lacks %s; give it these (systemd: AmbientCapabilities=), or run it as root", strings.Join(missing, ", "))})
	}
	if kind == config.PlaneIPVS {
		out = append(out, pairFaults(cfg.IPVS)...)
	}
	if kind == config.PlaneIPVS || kind == config.PlaneShadow {
		if err := probeIPVS(kind); err != nil && len(missing) == 0 {
			out = append(out, config.Fault{Path: "plane", Problem: err.Error() + "; load the module ip_vs, or take another plane"})
		}
		return out
	}
	var st unix.Statfs_t
	if err := unix.Statfs(bpffs, &st); (err != nil || st.Type != unix.BPF_FS_MAGIC) && !has(unix.CAP_SYS_ADMIN) {
		out = append(out, config.Fault{Path: "plane", Problem: "no bpffs is mounted at " + bpffs + " and mounting it needs CAP_SYS_ADMIN; mount -t bpf bpf " + bpffs})
	}
	return out
}

// pairFaults are networks of this machine in which addresses that stand for pairs would be: plane ipvs lets the machine itself
// reach nobody there.
func pairFaults(c config.IPVS) (out config.Faults) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return config.Faults{{Path: "ipvs.pairs", Problem: fmt.Sprintf("list this machine's addresses: %v", err)}}
	}
	for _, a := range addrs {
		connected, err := netip.ParsePrefix(a.String())
		if err == nil && (connected.Overlaps(c.Pairs4) || connected.Overlaps(c.Pairs6)) {
			out = append(out, config.Fault{Path: "ipvs.pairs", Problem: fmt.Sprintf("%s is this machine's and in it; name a prefix that nobody uses, like %s or %s",
				connected, config.Default().IPVS.Pairs4, config.Default().IPVS.Pairs6)})
		}
	}
	return out
}

// capabilities asks what is in the effective set.
func capabilities() (has func(int) bool, err error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return nil, fmt.Errorf("ask for capabilities: %w", err)
	}
	return func(c int) bool { return data[c/32].Effective&(1<<(c%32)) != 0 }, nil
}

// probeIPVS tells whether the kernel has what a plane needs of IPVS.
func probeIPVS(kind string) error {
	if kind == config.PlaneIPVS {
		return ipvs.Probe()
	}
	p, err := shadow.Open(nil)
	if err != nil {
		return err
	}
	return p.Close()
}

// missingCapabilities names what a plane, filter and probes need. CAP_SYS_ADMIN stands for CAP_BPF and CAP_PERFMON.
func missingCapabilities(has func(int) bool, kind string) (out []string) {
	type capability struct {
		number int
		name   string
		admin  bool
	}
	var needs []capability
	switch kind {
	case config.PlaneXDP:
		needs = append(needs, capability{unix.CAP_BPF, "CAP_BPF", true}, capability{unix.CAP_PERFMON, "CAP_PERFMON", true})
	case config.PlaneIPVS:
		needs = append(needs, capability{unix.CAP_SYS_ADMIN, "CAP_SYS_ADMIN", false}) // for a network namespace of its own
	}
	needs = append(needs, capability{unix.CAP_NET_ADMIN, "CAP_NET_ADMIN", false})
	if config.Forwards(kind) { // for the probes
		needs = append(needs, capability{unix.CAP_NET_RAW, "CAP_NET_RAW", false})
	}
	for _, c := range needs {
		if !has(c.number) && !(c.admin && has(unix.CAP_SYS_ADMIN)) {
			out = append(out, c.name)
		}
	}
	return out
}

// unwritable says why a directory can neither be written to nor made; "": it can.
func unwritable(dir string) string {
	for at := dir; ; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		switch {
		case errors.Is(err, fs.ErrNotExist) && at != filepath.Dir(at):
			continue // it would be made in its parent
		case err != nil:
			return fmt.Sprintf("%s: %v; name a directory that this user may write to", dir, err)
		case !info.IsDir():
			return fmt.Sprintf("%s is not a directory; name another one", at)
		}
		if err := unix.Access(at, unix.W_OK|unix.X_OK); err != nil {
			return fmt.Sprintf("%s cannot be written to by this user: %v; chown it, or name another directory", at, err)
		}
		return ""
	}
}
