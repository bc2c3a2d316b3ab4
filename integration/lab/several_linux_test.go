package lab

import (
	"net/netip"
	"slices"
	"testing"
	"time"
)

// TestSeveralDirectors: they are apart, reach each other by two networks, and Block cuts one way of one pair alone.
func TestSeveralDirectors(t *testing.T) {
	t.Parallel()
	l := newLab(t, Options{Directors: 3, Sites: 1, RealServers: 1, Bare: true})
	if len(l.Directors) != 3 || l.Director != l.Directors[0] || l.Gateways[0] != netip.MustParseAddr("192.0.2.129") {
		t.Fatalf("directors %v, gateways %v", l.Directors, l.Gateways)
	}
	d1, d2, d3 := l.Directors[0], l.Directors[1], l.Directors[2]
	lost := func(from, to *Director) int {
		t.Helper()
		n := 0
		for _, pair := range [][2]Port{{from.Mgmt, to.Mgmt}, {from.RS, to.RS}} {
			echoes, err := l.Ping(t.Context(), from.Namespace, pair[0].Addrs[0], pair[1].Addrs[0], 10*time.Millisecond, 2)
			if err != nil {
				t.Fatal(err)
			}
			n += CountLost(echoes)
		}
		return n
	}
	if n := lost(d1, d2) + lost(d1, d3) + lost(d2, d3); n != 0 {
		t.Errorf("%d of 12 packets lost before anything was cut", n)
	}
	heard, err := d2.Capture(d2.Mgmt)
	if err != nil {
		t.Fatal(err)
	}
	defer heard.Close()
	lift, err := l.Block(d1.Mgmt, d2.Mgmt.Addrs[0])
	if err != nil {
		t.Fatal(err)
	}
	if n := lost(d1, d2); n != 2 {
		t.Errorf("cut from d1 to d2 on one of two networks: %d packets lost, want 2", n)
	}
	if n := lost(d2, d1); n != 2 { // the answers are
		t.Errorf("cut from d1 to d2: %d packets of d2's lost, want 2", n)
	}
	if n := lost(d1, d3) + lost(d3, d2); n != 0 {
		t.Errorf("%d packets lost between those that were not cut", n)
	}
	for _, s := range heard.Seen() {
		if s.Src == d1.Mgmt.Addrs[0] {
			t.Errorf("d2 heard %+v of d1", s)
		}
	}
	if err := lift(); err != nil {
		t.Fatal(err)
	}
	if n := lost(d1, d2); n != 0 {
		t.Errorf("%d of 4 packets lost after the cut was mended", n)
	}
}

// TestLose: what is on its way to a machine is lost, for one address and no other, in both families; what it sends goes out.
func TestLose(t *testing.T) {
	t.Parallel()
	l := newLab(t, Options{Directors: 2, Sites: 1, RealServers: 1, Bare: true, IPv6: true})
	d1, d2 := l.Directors[0], l.Directors[1]
	for family, a := range d2.RS.Addrs {
		lost := func(family int) int {
			t.Helper()
			echoes, err := l.Ping(t.Context(), d1.Namespace, d1.RS.Addrs[family], d2.RS.Addrs[family], 10*time.Millisecond, 2)
			if err != nil {
				t.Fatal(err)
			}
			return CountLost(echoes)
		}
		lift, err := l.Lose(d2.RS, a)
		if err != nil {
			t.Fatal(err)
		}
		heard, err := d1.Capture(d1.RS)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.Ping(t.Context(), d2.Namespace, a, d1.RS.Addrs[family], 10*time.Millisecond, 2); err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(heard.Seen(), func(s Seen) bool { return s.Src == a }) {
			t.Errorf("nothing came from %s, which loses what comes to it", a)
		}
		heard.Close()
		if n := lost(family); n != 2 {
			t.Errorf("to %s %d of 2 packets were lost", a, n)
		}
		if n := lost(1 - family); n != 0 {
			t.Errorf("beside %s %d of 2 packets were lost", a, n)
		}
		if err := lift(); err != nil {
			t.Fatal(err)
		}
		if n := lost(family); n != 0 {
			t.Errorf("to %s %d of 2 packets were lost after it was mended", a, n)
		}
	}
}
