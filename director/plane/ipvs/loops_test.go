package ipvs

import (
	"bytes"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
	"tunneldirector/director/plane/frame"
	"tunneldirector/director/plane/ipvs/gate"
	"tunneldirector/director/plane/planetest"
)

func sorted(list []gate.Neighbour) []gate.Neighbour {
	slices.SortFunc(list, func(a, b gate.Neighbour) int { return a.Addr.Compare(b.Addr) })
	return list
}

// The gate is told of the real servers whose MAC addresses are known, as they are now.
func TestNeighboursOfTheGate(t *testing.T) {
	k := newKernel()
	p := open(k)
	c := small()
	c.RealServers[1].Method = affinity.IPIP
	pins := []plane.Entry{pin(site1, 0, 1, 2), pin(site2, 0, 2, 0)}
	if err := p.Replace(t.Context(), c, slices.Values(pins)); err != nil {
		t.Fatal(err)
	}
	a, mac := func(n byte) netip.Addr { return netip.AddrFrom4([4]byte{10, 9, 0, n}) }, func(n byte) [6]byte { return [6]byte{2, 0, 0, 9, 0, n} }
	from := func(site netip.Addr, i affinity.Index) plane.Reason {
		q := esp(site)
		q.From = i
		d, err := p.Lookup(q)
		if err != nil {
			t.Fatal(err)
		}
		return d.Reason
	}
	for _, step := range []struct {
		name  string
		moved map[netip.Addr][6]byte
		masq  bool // a second real server on the first one's address has method masq
		want  []gate.Neighbour
		loop  bool // what the first real server sends back to itself is one
	}{
		{"all known", nil, false, []gate.Neighbour{{Addr: a(1), MAC: mac(1)}, {Addr: a(2), MAC: mac(2)}, {Addr: a(3), MAC: mac(3)}}, true},
		{"one not known", map[netip.Addr][6]byte{a(1): {}}, false, []gate.Neighbour{{Addr: a(2), MAC: mac(2)}, {Addr: a(3), MAC: mac(3)}}, false},
		{"one replaced", map[netip.Addr][6]byte{a(1): mac(77)}, false, []gate.Neighbour{{Addr: a(1), MAC: mac(77)}, {Addr: a(2), MAC: mac(2)}, {Addr: a(3), MAC: mac(3)}}, true},
		{"two of one machine", map[netip.Addr][6]byte{a(3): mac(2)}, false, []gate.Neighbour{{Addr: a(1), MAC: mac(1)}}, true},
		{"a router answers for one of them", map[netip.Addr][6]byte{netip.MustParseAddr("10.9.0.254"): mac(1)}, false, []gate.Neighbour{{Addr: a(2), MAC: mac(2)}, {Addr: a(3), MAC: mac(3)}}, false},
		{"one has a link-local address, too", map[netip.Addr][6]byte{netip.MustParseAddr("169.254.1.1"): mac(1)}, false, []gate.Neighbour{{Addr: a(1), MAC: mac(1)}, {Addr: a(2), MAC: mac(2)}, {Addr: a(3), MAC: mac(3)}}, true},
		{"two that the rules cannot tell from each other", map[netip.Addr][6]byte{a(3): {2, 1, 0, 9, 0, 1}}, false, []gate.Neighbour{{Addr: a(2), MAC: mac(2)}}, false},
		{"one that others have for a priority", map[netip.Addr][6]byte{a(3): {2, 1}}, false, []gate.Neighbour{{Addr: a(1), MAC: mac(1)}, {Addr: a(2), MAC: mac(2)}}, true},
		{"one with masq, too", nil, true, []gate.Neighbour{{Addr: a(2), MAC: mac(2)}, {Addr: a(3), MAC: mac(3)}}, false},
	} {
		k.moved = step.moved
		now := c
		if step.masq {
			now.RealServers = append(slices.Clone(c.RealServers), plane.RealServer{Index: 9, Name: "rs9", Addrs: []netip.Addr{a(1)}, Method: affinity.Masq, Alive: true})
		}
		if err := p.Apply(t.Context(), plane.Update{Config: &now}); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(step.want, sorted(k.gate.Neighbours), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" {
			t.Errorf("%s (-want +got):\n%s", step.name, d)
		}
		want := map[bool]plane.Reason{true: plane.DropLoop}[step.loop]
		if got := from(site1, 1); got != want {
			t.Errorf("%s: from real server 1 to itself: %v, want %v", step.name, got, want)
		}
		if got := from(site1, 2); got != plane.None {
			t.Errorf("%s: from real server 2 to real server 1: %v", step.name, got)
		}
		if want := slices.ContainsFunc(step.want, func(n gate.Neighbour) bool { return n.Addr == a(2) }); (from(site2, 2) == plane.DropLoop) != want {
			t.Errorf("%s: from real server 2, by IPIP, to itself: a loop is %v, want %v", step.name, !want, want)
		}
	}
}

// What is cut under tunnel is shown without its outer header, and as from the real server that sent it.
func TestReturnedByTunnelIsShown(t *testing.T) {
	k := newKernel()
	p := open(k)
	c := smallBy(affinity.IPIP)
	if err := p.Replace(t.Context(), c, slices.Values([]plane.Entry{pin(site1, 0, 1, 2)})); err != nil {
		t.Fatal(err)
	}
	shown, end := showing(t, p)
	defer end()
	q := esp(site1)
	q.Size = 300
	inner, err := frame.Build(q, frame.MACs{Src: make(net.HardwareAddr, 6), Dst: make(net.HardwareAddr, 6)})
	if err != nil {
		t.Fatal(err)
	}
	outer, err := frame.Build(plane.Packet{Src: netip.MustParseAddr("10.9.0.254"), Dst: netip.MustParseAddr("10.9.0.1"), Proto: 4, Hops: 63, Size: 320},
		frame.MACs{Src: net.HardwareAddr{1, 2, 3, 4, 5, 6}, Dst: net.HardwareAddr{7, 8, 9, 1, 2, 3}})
	if err != nil {
		t.Fatal(err)
	}
	whole := append(bytes.Clone(outer[:34]), inner[14:]...)
	k.shown <- plane.Sample{Reason: plane.DropLoop, Interface: "td-tunnel", Length: len(whole), Head: whole[:plane.SampleBytes]}
	want := bytes.Clone(inner[:plane.SampleBytes-20])
	copy(want[6:], planetest.DefaultHosts()[0].MAC)
	if d := cmp.Diff(plane.Sample{Reason: plane.DropLoop, Side: plane.TunnelSide, Service: 1, RealServer: 1, Length: len(inner), Head: want}, <-shown); d != "" {
		t.Errorf("shown (-want +got):\n%s", d)
	}
}
