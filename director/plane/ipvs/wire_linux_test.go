package ipvs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
	"tunneldirector/director/plane/frame"
	"tunneldirector/director/plane/planetest"
	"tunneldirector/integration/spaces"
)

// A rig is a director's namespace with one veth pair per interface; the far ends are in another, where frames are put in and taken
// out. All real servers are beyond rs0, as neighbours that do not have to be asked.
type rig struct {
	t    testing.TB
	near spaces.Space
	ends map[string]*packet.Conn
	macs map[string]net.HardwareAddr // of the director's interfaces
	mark netip.Addr                  // where marker frames go
	n    uint16                      // markers sent
}

const rigServers = "rs0"

var markerMAC = net.HardwareAddr{2, 0, 0, 9, 0, 200}

// newRig leaves the test's goroutine, on a thread of its own, in the director's namespace.
func newRig(t testing.TB) *rig {
	t.Helper()
	if err := Probe(); errors.Is(err, plane.ErrUnsupported) {
		if os.Getenv("TUNNELDIRECTOR_VM") != "" {
			t.Fatal(err)
		}
		t.Skipf("%v; the test runs in the virtual machine: make test-vm", err)
	}
	s := spaces.New(t, 2)
	near, far := s[0], s[1]
	r := &rig{t: t, near: near, ends: map[string]*packet.Conn{}, macs: map[string]net.HardwareAddr{}, mark: netip.MustParseAddr("10.9.0.200")}
	for path, value := range map[string]string{"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1",
		"ipv4/conf/all/rp_filter": "0", "ipv4/conf/default/rp_filter": "0", "ipv4/icmp_ratelimit": "0"} {
		near.Sysctl("net/"+path, value)
	}
	for _, i := range testInterfaces() {
		r.wire(i.Name, far)
	}
	near.Give("rs0", "10.9.0.254/24", "2001:db8:9::254/64")
	for _, h := range testHosts() {
		for _, a := range h.Addrs {
			r.neighbour(a, h.MAC)
		}
	}
	r.neighbour(r.mark, markerMAC)
	must(t, netlink.RuleAdd(&netlink.Rule{Priority: 100, Family: unix.AF_INET, Dst: &net.IPNet{IP: r.mark.AsSlice(), Mask: net.CIDRMask(32, 32)},
		Table: unix.RT_TABLE_MAIN, Mark: 0, Goto: -1, Flow: -1, SuppressIfgroup: -1, SuppressPrefixlen: -1}))
	return r
}

func (r *rig) neighbour(a netip.Addr, mac net.HardwareAddr) {
	must(r.t, netlink.NeighSet(&netlink.Neigh{LinkIndex: r.near.Link(rigServers).Attrs().Index, State: netlink.NUD_PERMANENT, IP: a.AsSlice(), HardwareAddr: mac}))
}

// wire makes an interface, and listens at its far end.
func (r *rig) wire(name string, far spaces.Space) {
	spaces.Wire(r.near, name, far, name)
	r.macs[name] = r.near.Link(name).Attrs().HardwareAddr
	far.Do(func() {
		i, err := net.InterfaceByName(name)
		must(r.t, err)
		c, err := packet.Listen(i, packet.Raw, unix.ETH_P_ALL, nil)
		must(r.t, err)
		must(r.t, c.SetPromiscuous(true))
		r.t.Cleanup(func() { c.Close() })
		r.ends[name] = c
	})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// inject puts a frame in, then a marker by the same way, and takes out what comes to a real server before the marker does.
func (r *rig) inject(f []byte, name string) (planetest.Outcome, error) {
	r.n++
	marker, err := frame.Build(plane.Packet{Src: netip.MustParseAddr("198.51.100.99"), Dst: r.mark, Proto: protoUDP, SrcPort: r.n, DstPort: 9, Hops: 64},
		frame.MACs{Src: net.HardwareAddr{2, 0, 0, 5, 0, 9}, Dst: r.macs[name]})
	if err != nil {
		return planetest.Outcome{}, err
	}
	for _, b := range [][]byte{f, marker} {
		if _, err := r.ends[name].WriteTo(b, &packet.Addr{HardwareAddr: b[:6]}); err != nil {
			return planetest.Outcome{}, err
		}
	}
	out := planetest.Outcome{Verdict: planetest.Drop}
	in := r.ends[rigServers]
	must(r.t, in.SetReadDeadline(time.Now().Add(10*time.Second)))
	buf := make([]byte, 4096)
	for {
		n, _, err := in.ReadFrom(buf)
		if err != nil {
			return out, fmt.Errorf("wait for the marker: %w", err)
		}
		got := buf[:n]
		switch {
		case bytes.Equal(got[:6], markerMAC) && n > 36 && got[34] == byte(r.n>>8) && got[35] == byte(r.n):
			return out, nil
		case isICMP(inner(got, f)) && !bytes.Equal(sourceOf(inner(got, f)), sourceOf(f)): // the director's own word about a packet, to a source out of the pairs' range or in a subnet, say
		case bytes.Equal(got[:6], markerMAC) || !slices.ContainsFunc(testHosts(), func(h planetest.Host) bool { return bytes.Equal(h.MAC, got[:6]) }):
		case out.Verdict == planetest.Redirect:
			return out, errors.New("two frames came to real servers")
		default:
			out = planetest.Outcome{Verdict: planetest.Redirect, Frame: bytes.Clone(got), Interface: rigServers}
		}
	}
}

// sourceOf is the IP source address of a frame; nil if that is cut short.
func sourceOf(f []byte) []byte {
	if len(f) < 38 {
		return nil
	}
	if bytes.Equal(f[12:14], []byte{8, 0}) {
		return f[26:30]
	}
	return f[22:38]
}

// inner is the frame that another one has in a tunnel's header, or else itself; what was put in has one of its own perhaps.
func inner(got, put []byte) []byte {
	kind, protocol, header := got[12:14], 23, 20
	if bytes.Equal(kind, []byte{0x86, 0xdd}) {
		protocol, header = 20, 40
	}
	if bytes.Equal(sourceOf(got), sourceOf(put)) || len(got) < 14+header+40 {
		return got
	}
	switch got[protocol] {
	case 4:
		kind = []byte{8, 0}
	case 41:
		kind = []byte{0x86, 0xdd}
	default:
		return got
	}
	return slices.Concat(got[:12], kind, got[14+header:])
}

// isICMP tells whether a frame is ICMP or ICMPv6. One that is put in may be forwarded: to an address in a subnet that was a VIP.
func isICMP(f []byte) bool {
	switch {
	case bytes.Equal(f[12:14], []byte{8, 0}):
		return f[23] == 1
	case bytes.Equal(f[12:14], []byte{0x86, 0xdd}):
		return f[20] == 58
	}
	return false
}

// A settled plane has the VIPs as addresses, as director/vip would hold them, and the director's own, and lets graves run out before anybody looks.
type settled struct {
	*Plane
	r     *rig
	local map[netip.Addr]bool // on lo
}

func (s settled) Apply(ctx context.Context, u plane.Update) error {
	s.hold(u.Config)
	exact := slices.ContainsFunc(u.Entries, func(e plane.Entry) bool { return e.Delete && e.Endpoint.Port != 0 })
	err := s.Plane.Apply(ctx, u)
	if exact || u.Config != nil {
		time.Sleep(graveShort + 300*time.Millisecond)
	}
	return err
}

func (s settled) Replace(ctx context.Context, c plane.Config, entries iter.Seq[plane.Entry]) error {
	s.hold(&c)
	err := s.Plane.Replace(ctx, c, entries)
	time.Sleep(graveShort + 300*time.Millisecond)
	return err
}

// hold makes the VIPs and the director's own addresses local, and no others.
func (s settled) hold(c *plane.Config) {
	if c == nil {
		return
	}
	want := map[netip.Addr]bool{}
	for _, service := range c.Services {
		for _, a := range service.VIPs {
			want[a] = true
		}
	}
	for _, a := range c.Own {
		want[a] = true
	}
	for a := range want {
		if !s.local[a] {
			s.r.near.Give("lo", netip.PrefixFrom(a, a.BitLen()).String())
		}
	}
	for a := range s.local {
		if !want[a] {
			must(s.r.t, netlink.AddrDel(s.r.near.Link("lo"), &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}}))
		}
		delete(s.local, a)
	}
	maps.Copy(s.local, want)
}

// TestWire is planetest on the kernel itself.
func TestWire(t *testing.T) {
	for _, m := range []affinity.Method{affinity.DR, affinity.IPIP} {
		t.Run(fmt.Sprint(m), func(t *testing.T) {
			r := newRig(t)
			caps := testCaps(m)
			caps.Stack, caps.KernelOuter = true, true
			local := map[netip.Addr]bool{}
			planetest.Run(t, planetest.Options{
				Interfaces: testInterfaces(), Hosts: rigHosts(), Caps: caps, Histories: 5, Steps: 15, Packets: 30, MACs: r.macs, Inject: r.inject,
				Open: func(t testing.TB) plane.Plane {
					p, err := Open(Options{Interfaces: testInterfaces()})
					must(t, err)
					return settled{p, r, local}
				},
			})
		})
	}
}

func rigHosts() []planetest.Host {
	hosts := testHosts()
	for i := range hosts {
		hosts[i].Interface = rigServers
	}
	return hosts
}
