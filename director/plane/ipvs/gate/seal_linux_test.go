package gate

import (
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"tunneldirector/director/vip/ruleset"
	"tunneldirector/integration/spaces"
)

const sync = "td-sync"

var group = [4]byte{224, 0, 0, 81}

// TestMain is also the unprivileged process that sends to the group by an interface.
func TestMain(m *testing.M) {
	if ifname := os.Getenv("GATE_TEST_SEND_BY"); ifname != "" {
		if err := sendToGroup(ifname); err != nil {
			os.Stdout.WriteString(err.Error())
			os.Exit(3)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func sendToGroup(ifname string) error {
	ifi, err := net.InterfaceByName(ifname)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	if err := unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_IF, &unix.IPMreqn{Ifindex: int32(ifi.Index)}); err != nil {
		return err
	}
	return unix.Sendto(fd, []byte("forged"), 0, &unix.SockaddrInet4{Port: 8848, Addr: group})
}

// A daemon listens as IPVS's does: bound to the group and to the interface.
func daemon(t *testing.T) int {
	t.Helper()
	ifi, err := net.InterfaceByName(sync)
	must(t, err)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	must(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	must(t, unix.BindToDevice(fd, sync))
	must(t, unix.Bind(fd, &unix.SockaddrInet4{Port: 8848, Addr: group}))
	must(t, unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP, &unix.IPMreqn{Multiaddr: group, Ifindex: int32(ifi.Index)}))
	must(t, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 200_000}))
	return fd
}

func hears(t *testing.T, fd int) string {
	t.Helper()
	b := make([]byte, 100)
	n, err := unix.Read(fd, b)
	if err != nil {
		return ""
	}
	return string(b[:n])
}

// forge sends as nobody; the error, if there is one, is the kernel's refusal.
func forge(t *testing.T) {
	t.Helper()
	self, err := os.ReadFile("/proc/self/exe")
	must(t, err)
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o755))
	must(t, os.Chmod(dir+"/..", 0o755))
	exe := dir + "/forger"
	must(t, os.WriteFile(exe, self, 0o755))
	cmd := exec.Command(exe)
	cmd.Dir, cmd.Env = "/", []string{"GATE_TEST_SEND_BY=" + sync}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out, err := cmd.CombinedOutput(); err != nil && !strings.Contains(string(out), "not permitted") {
		t.Fatalf("the forger: %v: %s", err, out)
	}
}

func TestSeal(t *testing.T) {
	s := spaces.New(t, 2)
	dir, far := s[0], s[1]
	spaces.Wire(dir, sync, far, "far")
	dir.Give(sync, "169.254.1.1/30")
	fd := daemon(t)
	forge(t)
	if got := hears(t, fd); got != "forged" {
		t.Fatalf("without a seal the daemon heard %q: this test cannot fail", got)
	}
	g := openGate(t)
	sealed := func(want bool, when string) {
		t.Helper()
		if got, err := g.Sealed(sync); err != nil || got != want {
			t.Errorf("%s: sealed %v (%v)", when, got, err)
		}
	}
	sealed(false, "at first")
	must(t, g.Seal(t.Context(), sync))
	must(t, g.Seal(t.Context(), sync))
	sealed(true, "afterwards")
	closed := func(when string) {
		t.Helper()
		forge(t)
		if got := hears(t, fd); got != "" {
			t.Errorf("%s: the daemon heard %q", when, got)
		}
	}
	closed("sealed alone")
	packet := udp("169.254.1.2", net.IP(group[:]).String(), 8848)
	send(far, "far", dir, sync, packet)
	if got := hears(t, fd); got != "pins" {
		t.Errorf("from the far end the daemon heard %q", got)
	}
	for range 2 {
		_, err := g.Set(t.Context(), wanted)
		must(t, err)
		sealed(true, "after Set")
		closed("after Set")
	}

	must(t, openGate(t).table.Remove())
	sealed(false, "table gone")
	if changed, err := g.Set(t.Context(), wanted); err != nil || !changed {
		t.Errorf("the table was gone: changed %v (%v)", changed, err)
	}
	sealed(false, "Set makes no seal")
	must(t, g.Seal(t.Context(), sync))
	sealed(true, "sealed again")
	if changed, err := g.Set(t.Context(), wanted); err != nil || changed {
		t.Errorf("Seal disturbed what was set: changed %v (%v)", changed, err)
	}
	if err := g.Seal(t.Context(), "sixteen-bytes-xx"); err == nil {
		t.Error("a name too long was sealed")
	}
}

// The first layout of the table had no chains that show what is dropped, the second none that cuts loops. What they sealed is sealed in
// this one.
func TestSealOutlivesLayout(t *testing.T) {
	for _, before := range []string{"gate1", "gate2"} {
		t.Run(before, func(t *testing.T) { sealOutlives(t, before) })
	}
}

func sealOutlives(t *testing.T, layout string) {
	spaces.New(t, 1)
	first := ruleset.New(TableName, layout)
	first.Counter(counterSeal)
	first.Set(setSealed, nftables.TypeIFName)
	first.Rule(first.Hook("output", nftables.ChainHookOutput, 0), ruleset.Within(setSealed, ruleset.Out()), ruleset.Drop(counterSeal))
	older, err := ruleset.Open(first)
	must(t, err)
	defer older.Close()
	_, err = older.Keep(t.Context(), map[string]ruleset.Elements{setSealed: interfaces([]string{sync})})
	must(t, err)
	g := openGate(t)
	if sealed, err := g.Sealed(sync); err != nil || sealed {
		t.Fatalf("the older table is taken for this one's (%v): this test cannot fail", err)
	}
	if changed, err := g.Set(t.Context(), wanted); err != nil || !changed {
		t.Errorf("changed %v (%v)", changed, err)
	}
	if sealed, err := g.Sealed(sync); err != nil || !sealed {
		t.Errorf("sealed %v (%v) in the table made anew", sealed, err)
	}
}
