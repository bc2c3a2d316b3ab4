//go:build linux

package xdp

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
	"tunneldirector/director/plane/frame"
	"tunneldirector/integration/spaces"
)

// inNamespace puts the test into a network namespace of its own.
func inNamespace(t testing.TB) netns.NsHandle {
	t.Helper()
	spaces.Root(t)
	runtime.LockOSThread() // never unlocked: the thread ends with the test's goroutine
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	must(t, netlink.LinkSetUp(lo))
	return ns
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// veth makes a pair and brings both up.
func veth(t testing.TB, a, b string) {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = a
	must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: b}))
	for _, name := range []string{a, b} {
		l, err := netlink.LinkByName(name)
		must(t, err)
		must(t, netlink.LinkSetUp(l))
	}
}

func pinPath(t testing.TB) string {
	path := fmt.Sprintf("%s/tdtest-%d-%s", bpffs, os.Getpid(), pinName(t.Name()))
	t.Cleanup(func() {
		if err := Uninstall(path); err != nil {
			t.Error(err)
		}
	})
	return path
}

func pinName(s string) string {
	b := []byte(s)
	for i, c := range b {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9') {
			b[i] = '_'
		}
	}
	return string(b[max(0, len(b)-60):])
}

// oneNamespace is a plane over veth pairs tun, sub and rs in a namespace, without Run: the ways to real servers are
// made up, so that all is decided by what the test says.
func oneNamespace(t testing.TB, interfaces []plane.Interface, change func(*Options)) *Plane {
	t.Helper()
	inNamespace(t)
	for _, i := range interfaces {
		veth(t, i.Name, i.Name+"x")
	}
	o := Options{Interfaces: interfaces, PinPath: pinPath(t), MaxPins: 4096, MaxSubnets: 4096, FixOffloads: true}
	if change != nil {
		change(&o)
	}
	p, err := Open(o)
	must(t, err)
	return p
}

var threeSides = []plane.Interface{
	{Name: "tun", Roles: plane.RoleTunnel},
	{Name: "sub", Roles: plane.RoleSubnet, VLANs: map[uint16]string{7: "blue"}},
	{Name: "rs", Roles: plane.RoleRealServers},
}

// rsMAC is the made-up MAC address of whoever has address a.
func rsMAC(a netip.Addr) [6]uint8 {
	h := plane.HashAddr(a)
	return [6]uint8{2, 1, byte(h >> 24), byte(h >> 16), byte(h >> 8), byte(h)}
}

// fakeLinks makes up the way to each real server, by interface out.
func fakeLinks(t testing.TB, p *Plane, list []plane.RealServer, out string) {
	t.Helper()
	i := p.ports.all()[slices.IndexFunc(p.ports.all(), func(i iface) bool { return i.Name == out })]
	for _, rs := range list {
		for _, v6 := range []bool{false, true} {
			a := reachedBy(rs, v6)
			if !a.IsValid() {
				continue
			}
			source := netip.MustParseAddr("10.9.0.1")
			if v6 {
				source = netip.MustParseAddr("2001:db8:9::1")
			}
			l := forwardLink{Mac: rsMAC(a), Known: 1, Smac: i.mac, Neighbour: 1, Ifindex: uint32(i.index), Mtu: 1500, Tag: linkTag(a), Source: encodeAddr(source)}
			k := linkIndex(rs.Index, v6)
			must(t, p.o.TdLinks.Put(&k, &l))
		}
	}
}

const (
	xdpDrop     = 1
	xdpPass     = 2
	xdpTX       = 3
	xdpRedirect = 4
)

// run gives one frame to the forwarder as if it came by the interface, and returns what the forwarder did with it.
func run(t testing.TB, p *Plane, by string, frame []byte) (action uint32, out []byte) {
	t.Helper()
	i := p.ports.all()[slices.IndexFunc(p.ports.all(), func(i iface) bool { return i.Name == by })]
	runtime.LockOSThread() // a subtest is another goroutine; its thread ends with it
	must(t, netns.Set(p.ns))
	buf := make([]byte, len(frame)+256)
	o := ebpf.RunOptions{Data: frame, DataOut: buf, Context: xdpContext{DataEnd: uint32(len(frame)), Ingress: uint32(i.index)}}
	action, err := p.o.TdForward.Run(&o)
	must(t, err)
	return action, o.DataOut
}

// buildFrame is q on its way to the interface that has MAC dst.
func buildFrame(q plane.Packet, dst, src [6]byte) ([]byte, error) {
	return frame.Build(q, frame.MACs{Src: src[:], Dst: dst[:]})
}

func macOf(p *Plane, name string) [6]byte {
	return p.ports.all()[slices.IndexFunc(p.ports.all(), func(i iface) bool { return i.Name == name })].mac
}

func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }
func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func endpoint(vip, a string, port uint16, primary, backup affinity.Index) plane.Entry {
	return plane.Entry{Endpoint: plane.EndpointKey{VIP: addr(vip), Addr: addr(a), Port: port}, Target: plane.Target{Primary: primary, Backup: backup}}
}

func subnet(tenant uint16, s string, primary, backup affinity.Index) plane.Entry {
	return plane.Entry{Subnet: plane.SubnetKey{Tenant: tenant, Prefix: prefix(s)}, Target: plane.Target{Primary: primary, Backup: backup}}
}

func replaceAll(t testing.TB, p *Plane, c plane.Config, entries ...plane.Entry) {
	t.Helper()
	must(t, p.Replace(context.Background(), c, slices.Values(entries)))
}

// example is a configuration that uses all there is.
func example() plane.Config {
	match := func(list ...string) (out []affinity.Match) {
		for _, s := range list {
			m, err := affinity.ParseMatch(s)
			if err != nil {
				panic(err)
			}
			out = append(out, m)
		}
		return out
	}
	return plane.Config{
		Services: []plane.Service{
			{Num: 1, Name: "ipsec", VIPs: []netip.Addr{addr("192.0.2.1"), addr("2001:db8::1")}, Match: match("esp", "ah", "gre", "udp/500", "udp/4500")},
			{Num: 2, Name: "wg", VIPs: []netip.Addr{addr("192.0.2.1"), addr("2001:db8::1")}, Match: match("udp/51820-51829"), Ring: plane.NewRing([]affinity.Index{1, 2})},
			{Num: 3, Name: "far", VIPs: []netip.Addr{addr("192.0.2.3"), addr("2001:db8::3")}, Match: match("esp", "udp/500", "tcp/443")},
		},
		Tenants: []plane.Tenant{
			{Num: 0, Covers: []netip.Prefix{prefix("100.64.0.0/10"), prefix("2001:db8:6400::/40")}},
			{Num: 5, Name: "blue", Covers: []netip.Prefix{prefix("10.0.0.0/8")}},
		},
		RealServers: []plane.RealServer{
			{Index: 1, Name: "rs1", Addrs: []netip.Addr{addr("10.9.0.11"), addr("2001:db8:9::11")}, Alive: true, VLANs: map[uint16]uint16{5: 105}},
			{Index: 2, Name: "rs2", Addrs: []netip.Addr{addr("10.9.0.12"), addr("2001:db8:9::12")}, Alive: true},
			{Index: 3, Name: "rs3", Addrs: []netip.Addr{addr("10.9.0.13"), addr("2001:db8:9::13")}, Alive: true, Method: affinity.IPIP},
			{Index: 4, Name: "rs4", Addrs: []netip.Addr{addr("10.9.0.14")}, Alive: false},
		},
		Own: []netip.Addr{addr("192.0.2.100"), addr("100.64.0.1"), addr("2001:db8::100")},
	}
}

func exampleEntries() []plane.Entry {
	noPort := endpoint("192.0.2.1", "198.51.100.9", 0, 0, 0)
	noPort.Target.Drop = plane.DropNoPort
	return []plane.Entry{
		endpoint("192.0.2.1", "198.51.100.1", 0, 1, 2),
		endpoint("192.0.2.1", "198.51.100.2", 0, 2, 1),
		endpoint("192.0.2.1", "198.51.100.2", 4321, 1, 2),
		endpoint("192.0.2.1", "198.51.100.4", 0, 4, 2),
		endpoint("192.0.2.1", "198.51.100.44", 0, 4, 0),
		endpoint("192.0.2.1", "198.51.100.9", 777, 1, 2), noPort,
		endpoint("192.0.2.3", "198.51.100.3", 0, 3, 0),
		endpoint("2001:db8::1", "2001:db8:f::1", 0, 1, 2),
		endpoint("2001:db8::1", "2001:db8:f::1", 99, 2, 1),
		endpoint("2001:db8::3", "2001:db8:f::3", 0, 3, 0),
		subnet(0, "100.64.1.0/24", 1, 2),
		subnet(0, "100.64.1.128/25", 2, 1),
		subnet(0, "100.64.3.0/24", 3, 0),
		subnet(0, "2001:db8:6401::/48", 1, 2),
		subnet(0, "2001:db8:6403::/48", 3, 0),
		subnet(5, "10.1.0.0/16", 1, 0),
		subnet(5, "10.2.0.0/16", 2, 0),
	}
}

// examplePlane is a plane with the example in it.
func examplePlane(t testing.TB) *Plane {
	t.Helper()
	p := oneNamespace(t, threeSides, nil)
	c := example()
	replaceAll(t, p, c, exampleEntries()...)
	fakeLinks(t, p, c.RealServers, "rs")
	return p
}
