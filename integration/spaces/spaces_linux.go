package spaces

import (
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// A Space is a network namespace of a test.
type Space struct {
	T  testing.TB
	NS netns.NsHandle
}

// New makes n namespaces with lo up and leaves the test's goroutine, on a thread of its own, in the first. They last until
// the test ends. It skips where namespaces cannot be made; in CI that is a failure.
func New(t testing.TB, n int) []Space {
	t.Helper()
	Root(t)
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	var out []Space
	for range n {
		ns, err := netns.New()
		must(t, err)
		t.Cleanup(func() { must(t, ns.Close()) })
		s := Space{t, ns}
		s.Sysctl("net/ipv6/conf/default/accept_dad", "0") // addresses are there at once
		s.Up("lo")
		out = append(out, s)
	}
	out[0].Enter()
	return out
}

// Enter leaves the test's thread in s.
func (s Space) Enter() {
	s.T.Helper()
	must(s.T, netns.Set(s.NS))
}

// Do runs f in s, on the test's thread.
func (s Space) Do(f func()) {
	s.T.Helper()
	back, err := netns.Get()
	must(s.T, err)
	defer back.Close()
	s.Enter()
	defer func() { must(s.T, netns.Set(back)) }()
	f()
}

// Link is the link of that name.
func (s Space) Link(name string) (l netlink.Link) {
	s.T.Helper()
	s.Do(func() {
		var err error
		l, err = netlink.LinkByName(name)
		must(s.T, err)
	})
	return l
}

// Up sets a link up.
func (s Space) Up(name string) {
	s.T.Helper()
	l := s.Link(name)
	s.Do(func() { must(s.T, netlink.LinkSetUp(l)) })
}

// Down sets a link down.
func (s Space) Down(name string) {
	s.T.Helper()
	l := s.Link(name)
	s.Do(func() { must(s.T, netlink.LinkSetDown(l)) })
}

// Wire joins two namespaces by a veth pair, both ends up.
func Wire(a Space, aName string, b Space, bName string) {
	a.T.Helper()
	a.Do(func() {
		must(a.T, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: aName}, PeerName: bName, PeerNamespace: netlink.NsFd(b.NS)}))
	})
	a.Up(aName)
	b.Up(bName)
}

// Give adds addresses to a link; IPv6 without duplicate address detection.
func (s Space) Give(link string, prefixes ...string) {
	s.T.Helper()
	l := s.Link(link)
	s.Do(func() {
		for _, p := range prefixes {
			a, err := netlink.ParseAddr(p)
			must(s.T, err)
			if a.IP.To4() == nil {
				a.Flags = unix.IFA_F_NODAD
			}
			must(s.T, netlink.AddrAdd(l, a))
		}
	})
}

// Route sends a prefix by a gateway.
func (s Space) Route(prefix, via string) {
	s.T.Helper()
	s.Do(func() {
		dst, err := netlink.ParseIPNet(prefix)
		must(s.T, err)
		must(s.T, netlink.RouteAdd(&netlink.Route{Dst: dst, Gw: netip.MustParseAddr(via).AsSlice()}))
	})
}

// Sysctl writes a setting, by its path below /proc/sys.
func (s Space) Sysctl(path, value string) {
	s.T.Helper()
	s.Do(func() { must(s.T, os.WriteFile(filepath.Join("/proc/sys", path), []byte(value), 0o644)) })
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
