//go:build linux

package xdp

import (
	"bytes"
	"net"
	"testing"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
)

// One router leads to the sites and to the real server: what comes from its MAC address is not what the real server sent back.
func TestRouterIsNoLoop(t *testing.T) {
	l := newRoutedLab(t)
	for _, c := range []struct {
		vip, site, rs string
		ether         []byte
		proto         byte
		protoAt, dst  int // in the outer header
	}{
		{"192.0.2.3", "198.51.100.1", "10.9.1.1", []byte{8, 0}, 4, 9, 16},
		{"2001:db8::3", "2001:db8:51::1", "2001:db8:91::1", []byte{0x86, 0xdd}, 41, 6, 24},
	} {
		read := sniff(t, l.rsA)
		_, err := l.dial(t, "udp", net.JoinHostPort(c.vip, "500")).Write([]byte("tunnel"))
		must(t, err)
		for {
			f := read() // fails the test if nothing comes
			if !bytes.Equal(f[12:14], c.ether) || f[14+c.protoAt] != c.proto {
				continue // ARP, neighbour discovery
			}
			want := addr(c.rs).AsSlice()
			if got := f[14+c.dst:][:len(want)]; !bytes.Equal(got, want) {
				t.Errorf("outer destination %v, want %s", got, c.rs)
			}
			break
		}
		d, err := l.p.Lookup(plane.Packet{Src: addr(c.site), Dst: addr(c.vip), Proto: 17, SrcPort: 500, DstPort: 500, Hops: 9, From: 3})
		if err != nil || d.RealServer != 3 {
			t.Errorf("looked up from the router's MAC address: %+v (%v)", d, err)
		}
	}
	for vip, site := range map[string]string{"192.0.2.1": "198.51.100.1", "2001:db8::1": "2001:db8:51::1"} {
		d, err := l.p.Lookup(plane.Packet{Src: addr(site), Dst: addr(vip), Proto: 50, Hops: 9, From: 1})
		if err != nil || d.Reason != plane.DropLoop {
			t.Errorf("under dr the router would get the same packet back: %+v (%v)", d, err)
		}
	}
	s, err := l.p.Stats()
	must(t, err)
	if n := s.Reasons[plane.DropLoop]; n != 0 || s.RealServers[3].Packets == 0 {
		t.Errorf("%d packets were taken for loops, and %d went to the real server", n, s.RealServers[3].Packets)
	}
}

// A real server that is a neighbour does not get its own packets back, whatever the method.
func TestNeighbourIsALoop(t *testing.T) {
	l := newLab(t)
	for _, c := range []struct {
		method, vip, site string
		rs                affinity.Index
	}{
		{"dr", "192.0.2.1", "198.51.100.1", 1}, {"dr", "2001:db8::1", "2001:db8:51::1", 1},
		{"tunnel", "192.0.2.3", "198.51.100.1", 3}, {"tunnel", "2001:db8::3", "2001:db8:51::1", 3},
	} {
		for from, want := range map[affinity.Index]plane.Reason{0: plane.None, 2: plane.None, c.rs: plane.DropLoop} {
			d, err := l.p.Lookup(plane.Packet{Src: addr(c.site), Dst: addr(c.vip), Proto: 50, Hops: 9, From: from})
			must(t, err)
			if d.Reason != want {
				t.Errorf("%s, to %s, from real server %d: %v, want %v", c.method, c.vip, from, d.Reason, want)
			}
		}
	}
}
