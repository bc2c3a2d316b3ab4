package main

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tunneldirector/cmd/console"
	"tunneldirector/director/config"
)

// nodeFile is a configuration over interfaces, of which lo exists.
func nodeFile(t *testing.T, dataDir, more string, interfaces ...string) string {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "name: d1\ndata_dir: %s\n%sinterfaces:\n", dataDir, more)
	for _, i := range interfaces {
		fmt.Fprintf(&b, "  - {name: %s, roles: [tunnel, subnet, realservers]}\n", i)
	}
	return write(t, "director.yaml", b.String())
}

func TestCheckTellsAllFaults(t *testing.T) {
	file := write(t, "file", "")
	path := nodeFile(t, file+"/data", "api:\n  tokens_file: "+file+"x\n  socket: {path: "+file+".sock, group: nobody-has-this}\n", "missing0", "lo", "missing1")
	r := runIn(t.Context(), t, strings.NewReader(""), nil, "check", "--config", path).Exits(console.ExitFailed).
		Tells("api.tokens_file: ", "api.socket.group: ", "groupadd", "interfaces[0].name: \"missing0\" is not an interface", "interfaces[2].name: \"missing1\"", "ip -br link", "data_dir: ")
	if strings.Contains(r.ErrOut, "interfaces[1]") || strings.Contains(r.Out, "missing0") {
		t.Errorf("lo is faulty, or a missing interface has a finding:\n%s%s", r.Out, r.ErrOut)
	}
	if _, err := os.Stat(filepath.Join(file, "data")); err == nil {
		t.Error("check made the data directory")
	}
}

func TestCheckOfPlaneMem(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	path := nodeFile(t, dir, "plane: mem\n", "missing0")
	runIn(t.Context(), t, strings.NewReader(""), nil, "check", "--config", path).Exits(console.ExitOK, "a director can run here")
	if _, err := os.Stat(dir); err == nil {
		t.Error("check made the data directory")
	}
}

// Pair addresses in a network of this machine would cut it off from that.
func TestCheckOfPairsOnThisMachine(t *testing.T) {
	inNamespace(t)
	link := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "wire"}
	if err := netlink.LinkAdd(link); err != nil {
		t.Fatal(err)
	}
	for _, at := range []string{"10.1.2.3/24", "2001:db8::5/64"} {
		a, err := netlink.ParseAddr(at)
		if err == nil {
			err = netlink.AddrAdd(link, a)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	cfg := config.Default()
	cfg.DataDir = t.TempDir()
	said := func(kind string) string {
		var b strings.Builder
		for _, f := range hostFaults(cfg, kind) {
			if f.Path == "ipvs.pairs" {
				fmt.Fprintln(&b, f.Problem)
			}
		}
		return b.String()
	}
	if s := said(config.PlaneIPVS); s != "" {
		t.Errorf("the default is faulty: %s", s)
	}
	cfg.IPVS.Pairs4, cfg.IPVS.Pairs6 = netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/112")
	if s := said(config.PlaneIPVS); !strings.Contains(s, "10.1.2.3/24 is") || !strings.Contains(s, "2001:db8::5/64 is") || !strings.Contains(s, "like 240.0.0.0/16") {
		t.Errorf("says %q", s)
	}
	if s := said(config.PlaneXDP); s != "" {
		t.Errorf("plane xdp has no pairs: %s", s)
	}
}

// Another user lacks the rights and the directory. The test runs itself as one.
func TestCheckWithoutRights(t *testing.T) {
	if path := os.Getenv("CHECK_AS_NOBODY"); path != "" {
		runIn(t.Context(), t, strings.NewReader(""), nil, "check", "--config", path).Exits(console.ExitFailed).
			Tells("plane: the process lacks CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN, CAP_NET_RAW", "data_dir: ", "cannot be written to")
		return
	}
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("only root can run as somebody else, and CI has to be root")
		}
		t.Skip("only root can run as somebody else")
	}
	dir, err := os.MkdirTemp("", "check") // open to that user, unlike the test's own
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	data, err := os.ReadFile(nodeFile(t, dir+"/data", "plane: xdp\n", "lo"))
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"director.yaml": data, "test": self} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	c := exec.Command(filepath.Join(dir, "test"), "-test.run=^TestCheckWithoutRights$")
	c.Dir, c.Env = dir, append(os.Environ(), "CHECK_AS_NOBODY="+filepath.Join(dir, "director.yaml"))
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out, err := c.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

func TestMissingCapabilities(t *testing.T) {
	admin := func(c int) bool { return c == unix.CAP_SYS_ADMIN || c == unix.CAP_NET_RAW }
	if got := strings.Join(missingCapabilities(admin, config.PlaneXDP), " "); got != "CAP_NET_ADMIN" {
		t.Errorf("an administrator without network lacks %q", got)
	}
	if got := strings.Join(missingCapabilities(func(int) bool { return false }, config.PlaneShadow), " "); got != "CAP_NET_ADMIN" {
		t.Errorf("who may nothing lacks %q for shadow", got)
	}
	network := func(c int) bool { return c == unix.CAP_NET_ADMIN || c == unix.CAP_NET_RAW }
	if got := strings.Join(missingCapabilities(network, config.PlaneIPVS), " "); got != "CAP_SYS_ADMIN" {
		t.Errorf("who may all of the network lacks %q for ipvs", got)
	}
}
