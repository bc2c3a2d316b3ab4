package gate

import (
	"net/netip"
	"os"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// A space is a network namespace of a test.
type space struct {
	t  testing.TB
	ns netns.NsHandle
}

// newSpaces makes n namespaces and leaves the test's goroutine, on a thread of its own, in the first.
func newSpaces(t testing.TB, n int) []space {
	t.Helper()
	if os.Getuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("this test needs root, and CI has to have it")
		}
		t.Skip("needs root (network namespaces)")
	}
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	var out []space
	for range n {
		ns, err := netns.New()
		must(t, err)
		t.Cleanup(func() { ns.Close() })
		s := space{t, ns}
		s.do(func() { up(t, "lo") })
		s.sysctl("net/ipv6/conf/default/accept_dad", "0") // addresses are there at once
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

func up(t testing.TB, name string) netlink.Link {
	t.Helper()
	l, err := netlink.LinkByName(name)
	must(t, err)
	must(t, netlink.LinkSetUp(l))
	return l
}

// wire joins two namespaces by a veth pair.
func wire(a space, aName string, b space, bName string) {
	a.t.Helper()
	a.do(func() {
		must(a.t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: aName}, PeerName: bName, PeerNamespace: netlink.NsFd(b.ns)}))
		up(a.t, aName)
	})
	b.do(func() { up(b.t, bName) })
}

// give adds addresses; IPv6 without duplicate address detection.
func (s space) give(ifname string, prefixes ...string) {
	s.t.Helper()
	s.do(func() {
		l, err := netlink.LinkByName(ifname)
		must(s.t, err)
		for _, p := range prefixes {
			a, err := netlink.ParseAddr(p)
			must(s.t, err)
			if a.IP.To4() == nil {
				a.Flags = 0x02 // IFA_F_NODAD
			}
			must(s.t, netlink.AddrAdd(l, a))
		}
	})
}

// route sends a prefix by a gateway.
func (s space) route(prefix, via string) {
	s.t.Helper()
	s.do(func() {
		dst, err := netlink.ParseIPNet(prefix)
		must(s.t, err)
		must(s.t, netlink.RouteAdd(&netlink.Route{Dst: dst, Gw: netip.MustParseAddr(via).AsSlice()}))
	})
}

func (s space) sysctl(path, value string) {
	s.t.Helper()
	s.do(func() { must(s.t, os.WriteFile("/proc/sys/"+path, []byte(value), 0o644)) })
}
