package inject

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"tunneldirector/affinity"
)

// stranger is what a process that means harm is told: where to send what.
type stranger struct {
	Index   int // of the interface
	To      netip.AddrPort
	Message []byte
}

const strangerVariable = "INJECT_TEST_STRANGER"

// TestMain is the stranger's main, too.
func TestMain(m *testing.M) {
	if told := os.Getenv(strangerVariable); told != "" {
		if err := beStranger(told); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func beStranger(told string) error {
	var s stranger
	if err := json.Unmarshal([]byte(told), &s); err != nil {
		return err
	}
	if os.Geteuid() == 0 {
		return fmt.Errorf("a stranger is not root")
	}
	return throw(s)
}

// throw sends a message to the group by an interface, such that it comes back on it.
func throw(s stranger) error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(socket)
	for option, value := range map[int]int{unix.IP_MULTICAST_LOOP: 1, unix.IP_MULTICAST_TTL: 1} {
		if err := unix.SetsockoptInt(socket, unix.IPPROTO_IP, option, value); err != nil {
			return err
		}
	}
	if err := unix.SetsockoptIPMreqn(socket, unix.IPPROTO_IP, unix.IP_MULTICAST_IF, &unix.IPMreqn{Ifindex: int32(s.Index)}); err != nil {
		return err
	}
	// EPERM is how the output hook of a packet filter says no.
	if err := unix.Sendto(socket, s.Message, 0, &unix.SockaddrInet4{Port: int(s.To.Port()), Addr: s.To.Addr().As4()}); err != nil && err != unix.EPERM {
		return err
	}
	return nil
}

// dropOutput is a seal: what leaves by the interface is dropped.
func dropOutput(ifname string) error {
	c, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return err
	}
	defer c.CloseLasting()
	table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: "seal"})
	chain := c.AddChain(&nftables.Chain{Name: "output", Table: table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityRaw})
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, ifname)
	c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: name},
		&expr.Verdict{Kind: expr.VerdictDrop},
	}})
	return c.Flush()
}

// TestKernelSealed: nobody but the link injects: not from a wire, not as a process without rights. The latter does where there
// is no seal, and the former is seen to arrive, which proves the test.
func TestKernelSealed(t *testing.T) {
	for _, tt := range []struct {
		name   string
		seal   func(string) error
		harmed bool
	}{
		{"sealed", dropOutput, false},
		{"not sealed", unsealed, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inKernel(t)
			outside, wire := plugWire(t)
			l := openKernel(t, Options{Seal: tt.seal})
			to := netip.AddrPortFrom(l.o.Group, l.o.Port)
			near, err := netlink.LinkByName(Interface)
			must(t, err)
			runStranger(t, stranger{near.Attrs().Index, to, appendMessage(nil, l.o.SyncID, []Conn{harm("203.0.113.66:0")})})
			if got := comes(t, l.witness); got != tt.harmed {
				t.Errorf("what a process sends to %s comes back: %t, want %t", Interface, got, tt.harmed)
			}
			seen, err := watch(wire, l.o)
			must(t, err)
			defer seen.Close()
			inWire(t, outside, func() {
				link, err := netlink.LinkByName("eth0")
				must(t, err)
				must(t, throw(stranger{link.Attrs().Index, to, appendMessage(nil, l.o.SyncID, []Conn{harm("203.0.113.67:0")})}))
			})
			if !comes(t, seen) {
				t.Error("what was sent to the wire did not come: the test tests nothing")
			}
			// The daemon deals with datagrams in order: what this one finds there was there before it.
			want := []Conn{harm("203.0.113.5:0")}
			must(t, l.Send(t.Context(), want))
			if tt.harmed {
				want = append(want, harm("203.0.113.66:0"))
			}
			compareTables(t, "table", wanted(want...))
		})
	}
}

// comes tells whether a message with entries comes by a witness.
func comes(t *testing.T, w *witness) bool {
	t.Helper()
	must(t, w.wait(time.Second))
	messages, _, err := w.take(0)
	must(t, err)
	return messages > 0
}

func harm(client string) Conn {
	return Conn{at(client), at("198.51.100.1:500"), at("10.0.0.66:7"), affinity.DR, time.Hour}
}

func runStranger(t *testing.T, s stranger) {
	t.Helper()
	told, err := json.Marshal(s)
	must(t, err)
	c := exec.Command("/proc/self/exe") // it starts in the namespace of this thread
	c.Env = []string{strangerVariable + "=" + string(told)}
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// plugWire makes an interface eth0 with an address, whose other end is in another namespace.
func plugWire(t *testing.T) (outside netns.NsHandle, index int) {
	t.Helper()
	home, err := netns.Get()
	must(t, err)
	defer home.Close()
	outside, err = netns.New()
	must(t, err)
	t.Cleanup(func() { outside.Close() })
	must(t, netns.Set(home))
	pair := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "eth0", PeerNamespace: netlink.NsFd(outside)}
	must(t, netlink.LinkAdd(pair))
	up := func(addr string) int {
		link, err := netlink.LinkByName("eth0")
		must(t, err)
		a, err := netlink.ParseAddr(addr)
		must(t, err)
		must(t, netlink.AddrAdd(link, a))
		must(t, netlink.LinkSetUp(link))
		return link.Attrs().Index
	}
	index = up("192.0.2.1/24")
	inWire(t, outside, func() { up("192.0.2.2/24") })
	return outside, index
}

func inWire(t *testing.T, ns netns.NsHandle, f func()) {
	t.Helper()
	home, err := netns.Get()
	must(t, err)
	defer home.Close()
	must(t, netns.Set(ns))
	f()
	must(t, netns.Set(home))
}
