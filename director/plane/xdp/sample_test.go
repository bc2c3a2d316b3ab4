//go:build linux

package xdp

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"tunneldirector/director/plane"
)

// lastMAC marks the frame after which shown stops to read. No other frame comes from it.
var lastMAC = [6]byte{2, 0, 0, 0, 0xff, 0xff}

// shown is all that p has to show now, without the frame that tells where it ends.
func shown(t *testing.T, p *Plane) (list []plane.Sample) {
	t.Helper()
	unlimited(t, p)
	mac := macOf(p, p.ports.all()[0].Name)
	run(t, p, p.ports.all()[0].Name, slices.Concat(mac[:], lastMAC[:], []byte{8, 0}, make([]byte, 46)))
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	ended := false
	must(t, p.Samples(ctx, func(s plane.Sample) {
		if [6]byte(s.Head[6:]) != lastMAC {
			list = append(list, s)
			return
		}
		ended = true
		cancel()
	}))
	if !ended {
		t.Fatalf("the last frame was not shown, after %d others", len(list))
	}
	return list
}

// unlimited forgets how much has been shown in this window.
func unlimited(t *testing.T, p *Plane) {
	t.Helper()
	none := make([]forwardLimit, ebpf.MustPossibleCPU())
	for i := range uint32(reasons) {
		must(t, p.o.TdLimits.Put(i, none))
	}
}

// flood gives one frame to the forwarder n times.
func flood(t *testing.T, p *Plane, by string, frame []byte, n uint32) {
	t.Helper()
	i := p.ports.all()[slices.IndexFunc(p.ports.all(), func(i iface) bool { return i.Name == by })]
	runtime.LockOSThread() // as in run
	must(t, netns.Set(p.ns))
	_, err := p.o.TdForward.Run(&ebpf.RunOptions{Data: frame, Repeat: n, Context: xdpContext{DataEnd: uint32(len(frame)), Ingress: uint32(i.index)}})
	must(t, err)
}

// The example's packets: an ESP packet that is forwarded, and one from an endpoint that nobody knows.
var (
	known   = plane.Packet{Src: addr("198.51.100.1"), Dst: addr("192.0.2.1"), Proto: 50, Hops: 64}
	unknown = plane.Packet{Src: addr("198.51.100.77"), Dst: addr("192.0.2.1"), Proto: 50, Hops: 64}
)

var sampleTime = cmpopts.IgnoreFields(plane.Sample{}, "At")

func TestWhatIsDroppedIsShown(t *testing.T) {
	p := examplePlane(t)
	unplaced, contested := endpoint("192.0.2.1", "198.51.100.60", 0, 0, 0), endpoint("192.0.2.1", "198.51.100.61", 0, 0, 0)
	unplaced.Target.Drop, contested.Target.Drop = plane.DropUnplaced, plane.DropContested
	must(t, p.Apply(t.Context(), plane.Update{Entries: []plane.Entry{unplaced, contested}}))
	k := linkIndex(2, false)
	must(t, p.o.TdLinks.Put(&k, &forwardLink{}))
	to := func(src string) plane.Packet { return plane.Packet{Src: addr(src), Dst: addr("192.0.2.1"), Proto: 50} }
	with := func(q plane.Packet, change func(*plane.Packet)) plane.Packet { change(&q); return q }
	seen := map[plane.Reason]bool{}
	for _, c := range []struct {
		name string
		q    plane.Packet
		mac  [6]byte // that it comes from; none: siteMAC
		cut  int     // bytes of the frame that come; 0: all
		want plane.Sample
	}{
		{name: "a protocol of no service", q: with(known, func(q *plane.Packet) { q.Proto = 132 }),
			want: plane.Sample{Interface: "tun", Reason: plane.DropNoService, Side: plane.TunnelSide}},
		{name: "an endpoint that nobody knows", q: unknown,
			want: plane.Sample{Interface: "tun", Reason: plane.DropUnknown, Side: plane.TunnelSide, Service: 1}},
		{name: "an endpoint with pins by port, and no port", q: to("198.51.100.9"),
			want: plane.Sample{Interface: "tun", Reason: plane.DropNoPort, Side: plane.TunnelSide, Service: 1}},
		{name: "a group without a real server", q: to("198.51.100.60"),
			want: plane.Sample{Interface: "tun", Reason: plane.DropUnplaced, Side: plane.TunnelSide, Service: 1}},
		{name: "an endpoint that two want", q: to("198.51.100.61"),
			want: plane.Sample{Interface: "tun", Reason: plane.DropContested, Side: plane.TunnelSide, Service: 1}},
		{name: "both dead", q: to("198.51.100.44"),
			want: plane.Sample{Interface: "tun", Reason: plane.DropDead, Side: plane.TunnelSide, Service: 1}},
		{name: "no tunnel in the cover", q: plane.Packet{Interface: "sub", Src: addr("203.0.113.1"), Dst: addr("100.99.1.5"), Proto: 6},
			want: plane.Sample{Interface: "sub", Reason: plane.DropCover, Side: plane.SubnetSide}},
		{name: "no tunnel in a tenant's cover", q: plane.Packet{Interface: "sub", VLAN: 7, Src: addr("203.0.113.1"), Dst: addr("10.3.0.5"), Proto: 6},
			want: plane.Sample{Interface: "sub", Reason: plane.DropCover, Side: plane.SubnetSide, Tenant: 5}},
		{name: "from the real server that it would go to", q: known, mac: rsMAC(addr("10.9.0.11")),
			want: plane.Sample{Interface: "tun", Reason: plane.DropLoop, Side: plane.TunnelSide, Service: 1, RealServer: 1}},
		{name: "no hops left", q: with(known, func(q *plane.Packet) { q.Hops = 1 }),
			want: plane.Sample{Interface: "tun", Reason: plane.DropHops, Side: plane.TunnelSide, Service: 1, RealServer: 1}},
		{name: "from loopback", q: to("127.0.0.1"),
			want: plane.Sample{Interface: "tun", Reason: plane.DropSource, Side: plane.TunnelSide}},
		{name: "too big, and told", q: plane.Packet{Src: addr("198.51.100.3"), Dst: addr("192.0.2.3"), Proto: 50, Size: 1481, DF: true},
			want: plane.Sample{Interface: "tun", Reason: plane.DropTooBig, Side: plane.TunnelSide, Service: 3, RealServer: 3}},
		{name: "a jumbo frame in several buffers", q: with(known, func(q *plane.Packet) { q.Size = 8900 }),
			want: plane.Sample{Interface: "tun", Reason: plane.DropTooBig, Side: plane.TunnelSide, Service: 1, RealServer: 1}},
		{name: "too big by IPv6", q: plane.Packet{Src: addr("2001:db8:f::3"), Dst: addr("2001:db8::3"), Proto: 50, Size: 1461},
			want: plane.Sample{Interface: "tun", Reason: plane.DropTooBig, Side: plane.TunnelSide, Service: 3, RealServer: 3}},
		{name: "no neighbour", q: to("198.51.100.2"),
			want: plane.Sample{Interface: "tun", Reason: plane.DropNoNeighbour, Side: plane.TunnelSide, Service: 1, RealServer: 2}},
		{name: "cut short in the IP header", q: known, cut: 30,
			want: plane.Sample{Interface: "tun", Reason: plane.DropMalformed}},
		{name: "a later fragment that nobody knows", q: plane.Packet{Src: addr("198.51.100.77"), Dst: addr("192.0.2.1"), Proto: 17, Fragment: plane.Later},
			want: plane.Sample{Interface: "tun", Reason: plane.DropAmbiguous, Side: plane.TunnelSide, Service: 1}},
		{name: "an echo reply", q: with(known, func(q *plane.Packet) { q.Proto = 1 }),
			want: plane.Sample{Interface: "tun", Reason: plane.DropICMP, Side: plane.TunnelSide}},
		{name: "to a VIP by the wrong interface", q: with(known, func(q *plane.Packet) { q.Interface = "rs" }),
			want: plane.Sample{Interface: "rs", Reason: plane.DropRole, Side: plane.TunnelSide}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.q.Hops == 0 {
				c.q.Hops = 64
			}
			if c.mac == [6]byte{} {
				c.mac = siteMAC
			}
			frame, err := buildFrame(c.q, macOf(p, c.want.Interface), c.mac)
			must(t, err)
			if c.cut != 0 {
				frame = frame[:c.cut]
			}
			c.want.Length, c.want.Head = len(frame), frame[:min(len(frame), plane.SampleBytes)]
			unlimited(t, p)
			before := time.Now().Add(-time.Second) // a clock may be slewed
			run(t, p, c.want.Interface, frame)
			list := shown(t, p)
			if d := cmp.Diff([]plane.Sample{c.want}, list, sampleTime); d != "" {
				t.Fatalf("samples (-want +got)\n%s", d)
			}
			if at := list[0].At; at.Before(before) || at.After(time.Now().Add(time.Second)) {
				t.Errorf("dropped at %v", at)
			}
			seen[c.want.Reason] = true
		})
	}
	for r := plane.Reason(1); r <= plane.DropRole; r++ {
		if !seen[r] {
			t.Errorf("no test drops a packet for reason %v", r)
		}
	}
}

func TestWhatIsNotDroppedIsNotShown(t *testing.T) {
	p := examplePlane(t)
	for _, q := range []plane.Packet{known, {Src: addr("2001:db8:f::1"), Dst: addr("2001:db8::1"), Proto: 50},
		{Src: addr("198.51.100.1"), Dst: addr("192.0.2.1"), Proto: 1, ICMPType: 8}, {Src: addr("198.51.100.1"), Dst: addr("203.0.113.7"), Proto: 50},
		{Src: addr("198.51.100.1"), Dst: addr("192.0.2.1"), Proto: 50, OtherMAC: true}} {
		send(t, p, "tun", q)
	}
	if list := shown(t, p); len(list) != 0 {
		t.Errorf("shown: %+v", list)
	}
}

func TestTheTwinShowsNothing(t *testing.T) {
	p := examplePlane(t)
	must(t, p.Watch(plane.Watch{Proto: 50}, time.Now().Add(time.Hour)))
	for _, q := range []plane.Packet{known, unknown} {
		q.Hops = 64
		_, err := p.Lookup(q)
		must(t, err)
	}
	if list := shown(t, p); len(list) != 0 {
		t.Errorf("shown: %+v", list)
	}
}

func TestAFloodIsLimitedAndHidesNoOtherReason(t *testing.T) {
	p := examplePlane(t)
	frame, err := buildFrame(unknown, macOf(p, "tun"), siteMAC)
	must(t, err)
	begin := time.Now()
	flood(t, p, "tun", frame, 100_000)
	send(t, p, "sub", plane.Packet{Src: addr("203.0.113.1"), Dst: addr("100.99.1.5"), Proto: 6})
	windows := int(time.Since(begin)>>27) + 2
	n := map[plane.Reason]int{}
	for _, s := range shown(t, p) {
		n[s.Reason]++
	}
	if most := 16 * windows * runtime.NumCPU(); n[plane.DropUnknown] == 0 || n[plane.DropUnknown] > most || n[plane.DropCover] != 1 {
		t.Errorf("of 100,000 and 1, shown are %v; want 1 to %d, and 1", n, most)
	}
}

// TestTheNextDirectorReadsOn: nobody reads, then one does, and after each restart the next goes on where that stopped.
func TestTheNextDirectorReadsOn(t *testing.T) {
	p := examplePlane(t)
	send(t, p, "tun", unknown)
	send(t, p, "sub", plane.Packet{Src: addr("203.0.113.1"), Dst: addr("100.99.1.5"), Proto: 6})
	for _, want := range [][]plane.Reason{{plane.DropUnknown, plane.DropCover}, nil, {plane.DropHops}} {
		p = reopen(t, p, nil)
		if want != nil && want[0] == plane.DropHops {
			q := known
			q.Hops = 1
			send(t, p, "tun", q)
		}
		var got []plane.Reason
		for _, s := range shown(t, p) {
			got = append(got, s.Reason)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("after a restart (-want +got)\n%s", d)
		}
	}
}

// TestNewMapsAreMadeBesideThePinned: a version before had none for samples, and all else stays as that one left it.
func TestNewMapsAreMadeBesideThePinned(t *testing.T) {
	p := examplePlane(t)
	for _, name := range []string{forwardMapTdSamples, forwardMapTdWatch, forwardMapTdLimits} {
		must(t, os.Remove(filepath.Join(p.options.layoutDir(), name)))
	}
	p = reopen(t, p, nil)
	agree(t, p, example(), exampleEntries())
	send(t, p, "tun", unknown)
	if list := shown(t, p); len(list) != 1 {
		t.Errorf("shown: %+v", list)
	}
}

func TestAFullRingIsCountedAndReadOn(t *testing.T) {
	p := examplePlane(t)
	frame, err := buildFrame(unknown, macOf(p, "tun"), siteMAC)
	must(t, err)
	room := int(p.o.TdSamples.MaxEntries()) / 168 // of a record: 160 bytes and its header
	rounds, lost := room/16+2, 0
	for range rounds {
		unlimited(t, p)
		flood(t, p, "tun", frame, 16)
		lost += lostTo(t, p, plane.DropUnknown)
	}
	if want := rounds*16 - room; lost != want {
		t.Errorf("%d samples were lost, want %d", lost, want)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	n := 0
	must(t, p.Samples(ctx, func(plane.Sample) {
		if n++; n == room {
			cancel()
		}
	}))
	if n != room {
		t.Fatalf("%d samples were kept, want %d", n, room)
	}
	send(t, p, "sub", plane.Packet{Src: addr("203.0.113.1"), Dst: addr("100.99.1.5"), Proto: 6})
	if list := shown(t, p); len(list) != 1 || list[0].Reason != plane.DropCover {
		t.Errorf("after the ring was full, shown: %+v", list)
	}
}

// lostTo is how many samples of a reason were lost since the limits were forgotten.
func lostTo(t *testing.T, p *Plane, r plane.Reason) (lost int) {
	t.Helper()
	var limits []forwardLimit
	must(t, p.o.TdLimits.Lookup(uint32(r), &limits))
	for _, l := range limits {
		lost += int(l.Lost)
	}
	return lost
}

// TestInterfacesThatAreNotUsedAnyMore have the name that they have now, if they are there at all.
func TestInterfacesThatAreNotUsedAnyMore(t *testing.T) {
	p := examplePlane(t)
	for _, by := range []string{"tun", "sub", "rs"} {
		q := known
		q.Hops, q.Proto = 1, 132
		send(t, p, by, q)
	}
	p = reopen(t, p, func(o *Options) { o.Interfaces = o.Interfaces[:1] })
	l, err := netlink.LinkByName("rs")
	must(t, err)
	must(t, netlink.LinkDel(l))
	var got []string
	for _, s := range shown(t, p) {
		got = append(got, s.Interface)
	}
	if d := cmp.Diff([]string{"tun", "sub", ""}, got); d != "" {
		t.Errorf("interfaces (-want +got)\n%s", d)
	}
}

func TestDropsAreCountedByReason(t *testing.T) {
	p := examplePlane(t)
	for _, q := range []plane.Packet{known, unknown, unknown, {Src: addr("198.51.100.77"), Dst: addr("192.0.2.3"), Proto: 50},
		{Src: addr("198.51.100.1"), Dst: addr("203.0.113.7"), Proto: 50}} {
		send(t, p, "tun", q)
	}
	send(t, p, "sub", plane.Packet{Src: addr("203.0.113.1"), Dst: addr("100.99.1.5"), Proto: 6})
	got, err := p.Drops()
	must(t, err)
	if d := cmp.Diff(map[plane.Reason]uint64{plane.DropUnknown: 3, plane.DropCover: 1}, got); d != "" {
		t.Errorf("drops (-want +got)\n%s", d)
	}
}

// TestSamplesAsTheyCome: one waits while real packets come in over real (virtual) wires, and stops when told.
func TestSamplesAsTheyCome(t *testing.T) {
	l := newLab(t)
	serve(t, l.rsA, "A", 4500, 443)
	must(t, l.p.Watch(plane.Watch{Src: prefix("198.51.100.0/24"), DstPort: 4500}, time.Now().Add(time.Hour)))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	samples, done := make(chan plane.Sample, 100), make(chan error, 1)
	go func() { done <- l.p.Samples(ctx, func(s plane.Sample) { samples <- s }) }()
	next := func() (s plane.Sample) {
		t.Helper()
		select {
		case s = <-samples:
		case err := <-done:
			t.Fatalf("no more samples: %v", err)
		case <-time.After(30 * time.Second):
			t.Fatal("no sample")
		}
		return s
	}
	for _, size := range []int{7, 70} {
		l.ask(t, net.JoinHostPort("192.0.2.1", "4500"), size)
		s := next()
		want := plane.Sample{Interface: "tun", Side: plane.TunnelSide, Service: 1, RealServer: 1, Length: 14 + 28 + size, Watched: true}
		if d := cmp.Diff(want, s, sampleTime, cmpopts.IgnoreFields(plane.Sample{}, "Head")); d != "" {
			t.Errorf("sample (-want +got)\n%s", d)
		}
		if len(s.Head) != s.Length || !bytes.Equal(s.Head[14+28:], make([]byte, size)) {
			t.Errorf("head %x of %d bytes", s.Head, s.Length)
		}
	}
	_, err := l.dial(t, "udp", net.JoinHostPort("192.0.2.1", "9")).Write([]byte("discard"))
	must(t, err)
	if s := next(); s.Reason != plane.DropNoService || s.Watched {
		t.Errorf("a packet to a port of no service: %+v", s)
	}
	cancel()
	must(t, <-done)
}
