//go:build linux

package xdp

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"time"

	"tunneldirector/director/plane"
)

func TestWatchedPacketsAreShown(t *testing.T) {
	p := examplePlane(t)
	esp6 := plane.Packet{Src: addr("2001:db8:f::1"), Dst: addr("2001:db8::1"), Proto: 50}
	udp := plane.Packet{Src: addr("198.51.100.2"), Dst: addr("192.0.2.1"), Proto: 17, SrcPort: 4321, DstPort: 4500}
	later := plane.Packet{Src: addr("198.51.100.1"), Dst: addr("192.0.2.1"), Proto: 17, Fragment: plane.Later}
	local := plane.Packet{Src: addr("198.51.100.1"), Dst: addr("203.0.113.7"), Proto: 6, SrcPort: 80, DstPort: 4500}
	other := known
	other.OtherMAC = true
	for _, c := range []struct {
		name string
		w    plane.Watch
		q    plane.Packet
		fits bool
		want plane.Reason
	}{
		{name: "all", q: known, fits: true},
		{name: "all, by IPv6", q: esp6, fits: true},
		{name: "all, what is left to the stack, too", q: local, fits: true, want: plane.PassLocal},
		{name: "all, what is for another MAC address, too", q: other, fits: true, want: plane.PassMAC},
		{name: "a source", w: plane.Watch{Src: prefix("198.51.100.1/32")}, q: known, fits: true},
		{name: "another source", w: plane.Watch{Src: prefix("198.51.100.2/32")}, q: known},
		{name: "a source's net, however it is written", w: plane.Watch{Src: prefix("198.51.99.9/23")}, q: known},
		{name: "a source's wider net, however it is written", w: plane.Watch{Src: prefix("198.51.99.9/21")}, q: known, fits: true},
		{name: "all IPv4 sources", w: plane.Watch{Src: prefix("0.0.0.0/0")}, q: known, fits: true},
		{name: "all IPv4 sources, not IPv6", w: plane.Watch{Src: prefix("0.0.0.0/0")}, q: esp6},
		{name: "all IPv6 destinations", w: plane.Watch{Dst: prefix("::/0")}, q: esp6, fits: true},
		{name: "all IPv6 destinations, not IPv4", w: plane.Watch{Dst: prefix("::/0")}, q: known},
		{name: "mapped addresses, not IPv4", w: plane.Watch{Src: prefix("::ffff:198.51.100.1/128")}, q: known},
		{name: "a destination", w: plane.Watch{Dst: prefix("192.0.2.1/32")}, q: known, fits: true},
		{name: "another destination", w: plane.Watch{Dst: prefix("192.0.2.3/32")}, q: known},
		{name: "an IPv6 source", w: plane.Watch{Src: prefix("2001:db8:f::1/128")}, q: esp6, fits: true},
		{name: "another IPv6 source", w: plane.Watch{Src: prefix("2001:db8:f::2/128")}, q: esp6},
		{name: "an IPv6 net that ends inside a word", w: plane.Watch{Src: prefix("2001:db8:8::/45")}, q: esp6, fits: true},
		{name: "another IPv6 net that ends inside a word", w: plane.Watch{Src: prefix("2001:db8:18::/45")}, q: esp6},
		{name: "source and destination", w: plane.Watch{Src: prefix("2001:db8:f::/64"), Dst: prefix("2001:db8::1/128")}, q: esp6, fits: true},
		{name: "the right source and another destination", w: plane.Watch{Src: prefix("2001:db8:f::/64"), Dst: prefix("2001:db8::3/128")}, q: esp6},
		{name: "a protocol", w: plane.Watch{Proto: 50}, q: known, fits: true},
		{name: "another protocol", w: plane.Watch{Proto: 17}, q: known},
		{name: "a source port", w: plane.Watch{SrcPort: 4321}, q: udp, fits: true},
		{name: "another source port", w: plane.Watch{SrcPort: 4500}, q: udp},
		{name: "a destination port", w: plane.Watch{DstPort: 4500}, q: udp, fits: true},
		{name: "a destination port, by another protocol", w: plane.Watch{Proto: 6, DstPort: 4500}, q: local, fits: true, want: plane.PassLocal},
		{name: "another destination port", w: plane.Watch{DstPort: 4321}, q: udp},
		{name: "a port, where there is none", w: plane.Watch{DstPort: 4500}, q: known},
		{name: "a port, in a later fragment", w: plane.Watch{DstPort: 4500}, q: later},
		{name: "a later fragment", w: plane.Watch{Proto: 17}, q: later, fits: true},
		{name: "what is dropped", w: plane.Watch{Proto: 50}, q: unknown, fits: true, want: plane.DropUnknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			must(t, p.Watch(c.w, time.Now().Add(time.Hour)))
			unlimited(t, p)
			frame, _, _ := send(t, p, "tun", c.q)
			must(t, p.Watch(plane.Watch{}, time.Time{}))
			list := fromSite(shown(t, p))
			switch {
			case !c.fits && len(list) != 0:
				t.Errorf("shown: %+v", list)
			case c.fits && (len(list) != 1 || list[0].Reason != c.want || !list[0].Watched):
				t.Errorf("want one watched sample of reason %v, got %+v", c.want, list)
			case c.fits && string(list[0].Head) != string(frame[:min(len(frame), plane.SampleBytes)]):
				t.Errorf("head %x\nof    %x", list[0].Head, frame)
			}
		})
	}
}

// fromSite leaves out what the wires' own ends have to say.
func fromSite(list []plane.Sample) (out []plane.Sample) {
	for _, s := range list {
		if [6]byte(s.Head[6:]) == siteMAC {
			out = append(out, s)
		}
	}
	return out
}

// TestNoFilterFitsWhatCannotBeRead: a header that is cut short, or not IP at all, is shown to who asked for everything.
func TestNoFilterFitsWhatCannotBeRead(t *testing.T) {
	p := examplePlane(t)
	q := known
	q.Proto, q.SrcPort, q.DstPort = 17, 500, 500
	frame, err := buildFrame(q, macOf(p, "tun"), siteMAC)
	must(t, err)
	arp, short := bytes.Clone(frame), bytes.Clone(frame)
	arp[12], arp[13] = 8, 6
	short[17] = 27
	for name, f := range map[string][]byte{"a packet that ends in its ports": short, "a frame cut short": frame[:14+21], "ARP": arp} {
		for _, w := range []plane.Watch{{}, {Src: prefix("0.0.0.0/0")}, {Src: prefix("198.51.100.1/32")}, {Proto: 17}, {DstPort: 500}} {
			must(t, p.Watch(w, time.Now().Add(time.Hour)))
			unlimited(t, p)
			run(t, p, "tun", f)
			must(t, p.Watch(plane.Watch{}, time.Time{}))
			watched := false
			for _, s := range fromSite(shown(t, p)) {
				watched = watched || s.Watched
			}
			if watched != (w == plane.Watch{}) {
				t.Errorf("%s fits %+v: %v", name, w, watched)
			}
		}
	}
}

func TestAWatchEnds(t *testing.T) {
	p := examplePlane(t)
	esp := plane.Watch{Proto: 50}
	seen := func() bool {
		t.Helper()
		unlimited(t, p)
		send(t, p, "tun", known)
		return len(shown(t, p)) != 0
	}
	begin := func() {
		t.Helper()
		must(t, p.Watch(esp, time.Now().Add(time.Hour)))
		if !seen() {
			t.Fatal("nothing is shown")
		}
	}
	begin()
	must(t, p.Watch(esp, time.Now()))
	if seen() {
		t.Error("a time that is over did not end it")
	}
	begin()
	must(t, p.Watch(plane.Watch{Proto: 51}, time.Now().Add(time.Hour)))
	if seen() {
		t.Error("another watch did not end it")
	}
	must(t, p.Watch(esp, time.Now().Add(50*time.Millisecond)))
	time.Sleep(100 * time.Millisecond)
	if seen() {
		t.Error("its time did not end it")
	}
	begin()
	p = reopen(t, p, nil)
	if seen() {
		t.Error("a new director did not end it")
	}
}

// TestWatchedDropsAreShownInAFlood: whoever watches one site sees its packets dropped, however many others drop for the same
// reason.
func TestWatchedDropsAreShownInAFlood(t *testing.T) {
	p := examplePlane(t)
	others := unknown
	others.Src = addr("198.51.100.78")
	frame, err := buildFrame(others, macOf(p, "tun"), siteMAC)
	must(t, err)
	must(t, p.Watch(plane.Watch{Src: prefix("198.51.100.77/32")}, time.Now().Add(time.Hour)))
	const rounds = 10 // one may be between two windows, or two processors
	n := 0
	for range rounds {
		unlimited(t, p)
		flood(t, p, "tun", frame, 1000)
		send(t, p, "tun", unknown)
		for _, s := range shown(t, p) {
			if s.Watched {
				n++
			}
		}
	}
	if n != rounds {
		t.Errorf("%d of %d watched packets were shown", n, rounds)
	}
}

// TestNoHalfOfAWatchCounts: the packet fits the source of one watch and the destination of the other. It is one that is dropped,
// since the program leaves such a frame as it is, for the next time.
func TestNoHalfOfAWatchCounts(t *testing.T) {
	p := examplePlane(t)
	frame, err := buildFrame(unknown, macOf(p, "tun"), siteMAC)
	must(t, err)
	done := make(chan error, 1)
	go func() {
		for i := range 20_000 {
			w := plane.Watch{Src: prefix("198.51.100.77/32"), Dst: prefix("192.0.2.3/32")}
			if i%2 == 0 {
				w = plane.Watch{Src: prefix("198.51.100.3/32"), Dst: prefix("192.0.2.1/32")}
			}
			if err := p.Watch(w, time.Now().Add(time.Hour)); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for busy := true; busy; {
		flood(t, p, "tun", frame, 1000)
		select {
		case err := <-done:
			must(t, err)
			busy = false
		default:
		}
	}
	for _, s := range shown(t, p) {
		if s.Watched {
			t.Fatal("a packet fits what nobody asked for")
		}
	}
}

func TestAWatchThatCannotBeIsRefused(t *testing.T) {
	for _, c := range []struct {
		name string
		w    plane.Watch
		says string
	}{
		{"two families", plane.Watch{Src: prefix("198.51.100.0/24"), Dst: prefix("2001:db8::/32")}, "not of one family"},
		{"no prefix", plane.Watch{Dst: netip.PrefixFrom(addr("192.0.2.1"), 33)}, "Dst is not a prefix"},
	} {
		if _, err := encodeWatch(c.w); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
