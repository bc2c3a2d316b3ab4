package probe

import (
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"tunneldirector/director/agent"
)

// needRoot skips where namespaces cannot be made; in CI that is a failure.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Getuid() == 0 {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("this test needs root, and CI has to have it")
	}
	t.Skip("needs root (network namespaces)")
}

// A space is a network namespace of a test.
type space struct {
	t  testing.TB
	ns netns.NsHandle
}

// newSpaces makes n namespaces and leaves the test's goroutine, on a thread of its own, in the first.
func newSpaces(t testing.TB, n int) []space {
	needRoot(t)
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	var out []space
	for range n {
		ns, err := netns.New()
		must(t, err)
		t.Cleanup(func() { ns.Close() })
		s := space{t, ns}
		s.do(func() { s.up("lo") })
		s.sysctl("net/ipv6/conf/default/accept_dad", "0") // link-local addresses are there at once
		out = append(out, s)
	}
	must(t, netns.Set(out[0].ns))
	return out
}

// do runs f in s, on the test's thread.
func (s space) do(f func()) {
	s.t.Helper()
	back, err := netns.Get()
	must(s.t, err)
	defer back.Close()
	must(s.t, netns.Set(s.ns))
	defer func() { must(s.t, netns.Set(back)) }()
	f()
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (s space) up(name string) {
	s.t.Helper()
	s.do(func() {
		l, err := netlink.LinkByName(name)
		must(s.t, err)
		must(s.t, netlink.LinkSetUp(l))
	})
}

func (s space) down(name string) {
	s.t.Helper()
	s.do(func() {
		l, err := netlink.LinkByName(name)
		must(s.t, err)
		must(s.t, netlink.LinkSetDown(l))
	})
}

// wire joins two namespaces by a veth pair.
func wire(t testing.TB, a space, aName string, b space, bName string) {
	t.Helper()
	a.do(func() {
		must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: aName}, PeerName: bName, PeerNamespace: netlink.NsFd(b.ns)}))
	})
	a.up(aName)
	b.up(bName)
}

// give adds an address; IPv6 without duplicate address detection.
func (s space) give(ifname, prefix string) {
	s.t.Helper()
	s.do(func() {
		l, err := netlink.LinkByName(ifname)
		must(s.t, err)
		a, err := netlink.ParseAddr(prefix)
		must(s.t, err)
		if a.IP.To4() == nil {
			a.Flags = 0x02 // IFA_F_NODAD
		}
		must(s.t, netlink.AddrAdd(l, a))
	})
}

// take removes an address.
func (s space) take(ifname, prefix string) {
	s.t.Helper()
	s.do(func() {
		l, err := netlink.LinkByName(ifname)
		must(s.t, err)
		a, err := netlink.ParseAddr(prefix)
		must(s.t, err)
		must(s.t, netlink.AddrDel(l, a))
	})
}

func (s space) sysctl(path, value string) {
	s.t.Helper()
	s.do(func() { must(s.t, os.WriteFile("/proc/sys/"+path, []byte(value), 0o644)) })
}

// serveUDP answers each datagram by answer; "" keeps silent.
func (s space) serveUDP(addr, answer string) net.PacketConn {
	s.t.Helper()
	var c net.PacketConn
	s.do(func() {
		var err error
		c, err = net.ListenPacket("udp", addr)
		must(s.t, err)
	})
	s.t.Cleanup(func() { c.Close() })
	go func() {
		for buf := make([]byte, 1500); ; {
			_, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			if answer != "" {
				_, _ = c.WriteTo([]byte(answer), from)
			}
		}
	}()
	return c
}

// serveAgent answers probes.
func (s space) serveAgent(at netip.AddrPort) net.PacketConn {
	s.t.Helper()
	var c net.PacketConn
	s.do(func() {
		var err error
		c, err = net.ListenPacket("udp", at.String())
		must(s.t, err)
	})
	s.t.Cleanup(func() { c.Close() })
	go func() {
		for buf := make([]byte, 1500); ; {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			if nonce, name, err := agent.ParseProbe(buf[:n]); err == nil {
				_, _ = c.WriteTo(agent.Answer{Nonce: nonce, Health: agent.HealthWorking, RealServer: name}.Append(nil), from)
			}
		}
	}()
	return c
}

func (s space) serveTCP(addr string) net.Listener {
	s.t.Helper()
	var l net.Listener
	s.do(func() {
		var err error
		l, err = net.Listen("tcp", addr)
		must(s.t, err)
	})
	s.t.Cleanup(func() { l.Close() })
	return l
}

// cpuTime is what this process has used.
func cpuTime(t testing.TB) time.Duration {
	t.Helper()
	var u unix.Rusage
	must(t, unix.Getrusage(unix.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
