package gate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables/expr"

	"tunneldirector/director/plane"
	"tunneldirector/director/vip/ruleset"
	"tunneldirector/integration/spaces"
)

func openLog(t *testing.T) *Log {
	t.Helper()
	l, err := OpenLog()
	must(t, err)
	t.Cleanup(func() { l.Close() })
	return l
}

// patience is how long a test waits for what has to come; it comes much sooner.
const patience = 10 * time.Second

// next reads samples until one is done with, or the test has waited in vain.
func next(t *testing.T, l *Log, done func(plane.Sample) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	found := false
	must(t, l.Read(ctx, func(s plane.Sample) {
		if !found && done(s) {
			found = true
			cancel()
		}
	}))
	if !found {
		t.Fatal("what the test waits for was not shown")
	}
}

// until is what is shown before the first sample that is dropped because of its role: a test's marker. What the kernel itself sends
// to multicast groups when a link is new is left out.
func until(t *testing.T, l *Log) (before []plane.Sample) {
	t.Helper()
	next(t, l, func(s plane.Sample) bool {
		if s.Reason == plane.DropRole {
			return true
		}
		if !bytes.HasPrefix(s.Head, []byte{0x33, 0x33}) {
			before = append(before, s)
		}
		return false
	})
	return before
}

// noRole sends a marker.
func (l *lab) noRole() { send(l.rs, "eth0", l.dir, "rs0", udp("10.2.0.2", vip4, 500)) }

func TestDropsAreShown(t *testing.T) {
	l := newLab(t)
	l.standIn = standIn(t)
	l.dir.Sysctl("net/ipv4/icmp_ratelimit", "0")
	l.dir.Sysctl("net/ipv6/icmp/ratelimit", "0")
	log := openLog(t)
	must(t, log.Bind())
	_, err := l.gate.Set(t.Context(), wanted)
	must(t, err)
	long := ip(site4, vip4, 47, bytes.Repeat([]byte{7}, 1000)...)
	for _, tt := range []struct {
		name   string
		from   spaces.Space
		by     string
		packet []byte
		reason plane.Reason
		side   plane.Side
	}{
		{"role", l.rs, "rs0", udp(known4, vip4, 500), plane.DropRole, plane.TunnelSide},
		{"source", l.site, "tun0", udp(away4, vip4, 500), plane.DropSource, plane.TunnelSide},
		{"source of IPv6", l.site, "tun0", esp("2001:db8:7::200", vip6), plane.DropSource, plane.TunnelSide},
		{"source, on the subnet side", l.target, "in0", udp(away4, "100.64.0.1", 500), plane.DropSource, plane.SubnetSide},
		{"ICMP", l.site, "tun0", icmp(known6, vip6, 129), plane.DropICMP, plane.TunnelSide},
		{"service", l.site, "tun0", udp(known4, vip4, 499), plane.DropNoService, plane.TunnelSide},
		{"a long one", l.site, "tun0", long, plane.DropNoService, plane.TunnelSide},
		{"port", l.site, "tun0", esp(split4, vip4), plane.DropNoPort, plane.TunnelSide},
		{"unknown", l.site, "tun0", esp(site4, vip4), plane.DropUnknown, plane.TunnelSide},
		{"unknown of IPv6", l.site, "tun0", ah(site6, vip6), plane.DropUnknown, plane.TunnelSide},
		// What IPVS refuses is known by the answer.
		{"refused", l.site, "", udp(site4, vip4, 500), plane.DropUnknown, plane.TunnelSide},
		{"refused of IPv6", l.site, "", udp(site6, vip6, 500), plane.DropUnknown, plane.TunnelSide},
	} {
		by := tt.by
		if by == "" {
			by = "tun0"
		}
		sent := time.Now()
		send(tt.from, "eth0", l.dir, by, tt.packet)
		next(t, log, func(s plane.Sample) bool {
			header := make([]byte, 14)
			if tt.by != "" {
				copy(header, l.dir.Link(by).Attrs().HardwareAddr)
				copy(header[6:], tt.from.Link("eth0").Attrs().HardwareAddr)
			}
			header[12], header[13] = 8, 0
			if tt.packet[0]>>4 == 6 {
				header[12], header[13] = 0x86, 0xdd
			}
			head := append(header, tt.packet...)
			if tt.side == plane.SubnetSide { // one hop less, and the checksum of that
				head[22]--
				head[24]++
			}
			got, want := fmt.Sprint(s.Reason, s.Side, s.Interface, s.Length, s.Watched), fmt.Sprint(tt.reason, tt.side, tt.by, len(head), false)
			if got != want {
				t.Errorf("%s: shown %s, want %s", tt.name, got, want)
			}
			if head = head[:min(len(head), plane.SampleBytes)]; !bytes.Equal(s.Head, head) {
				t.Errorf("%s: the head is\n%x, want\n%x", tt.name, s.Head, head)
			}
			if since := s.At.Sub(sent); since < -time.Millisecond || since > patience {
				t.Errorf("%s: it is of %v after it was sent", tt.name, since)
			}
			return true
		})
	}
	// Forwarded, echo, and what is not for a VIP.
	send(l.target, "eth0", l.dir, "in0", udp("10.1.0.2", "100.64.0.1", 500))
	send(l.site, "eth0", l.dir, "tun0", udp(known4, vip4, 500), icmp(site4, vip4, 8), udp(site4, "192.0.2.1", 7))
	l.noRole()
	if shown := until(t, log); len(shown) > 0 {
		t.Errorf("shown %+v, and nobody dropped it", shown)
	}
}

// A flood of one reason is shown in part, and counted whole; it hides no other reason. What came while nobody read is there.
func TestFloodIsShownInPart(t *testing.T) {
	l := newLab(t)
	l.standIn = standIn(t)
	log := openLog(t)
	must(t, log.Bind())
	_, err := l.gate.Set(t.Context(), wanted)
	must(t, err)
	const waves, many = 6, 500 // a wire's queue has room for a wave
	flood := make([][]byte, many)
	for i := range flood {
		flood[i] = udp(known4, vip4, 499)
	}
	began := time.Now()
	for range waves {
		if got := l.count(t, l.site, "tun0", flood...); got != fmt.Sprintf("%s %d", counterService, many) {
			t.Errorf("counted %q, want all %d", got, many)
		}
	}
	l.noRole()
	shown := until(t, log)
	if most := shownDrops + int(time.Since(began).Seconds()*shownDrops) + 1; len(shown) < shownDrops || len(shown) > most {
		t.Errorf("shown %d of %d, want %d to %d", len(shown), waves*many, shownDrops, most)
	}
	for _, s := range shown {
		if s.Reason != plane.DropNoService {
			t.Errorf("shown %v", s.Reason)
		}
	}
}

// Some hundred packets wait for a reader, and one that comes after another ended misses nothing.
func TestSamplesWait(t *testing.T) {
	l := newLab(t)
	log := openLog(t)
	must(t, log.Bind())
	_, err := l.gate.Set(t.Context(), wanted)
	must(t, err)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	must(t, log.Read(ended, func(plane.Sample) { t.Error("shown after the end") }))
	must(t, log.Watch(plane.Watch{Proto: 200}, []string{"in0"}, time.Hour))
	const many = 2 * shownWatched
	packets := make([][]byte, many)
	for i := range packets {
		packets[i] = ip("10.1.0.2", "10.1.0.1", 200, byte(i))
	}
	began := time.Now()
	send(l.target, "eth0", l.dir, "in0", packets...)
	l.noRole()
	shown := until(t, log)
	if most := shownWatched + int(time.Since(began).Seconds()*shownWatched) + 1; len(shown) < shownWatched || len(shown) > most {
		t.Fatalf("shown %d of %d, want %d to %d", len(shown), many, shownWatched, most)
	}
	for i, s := range shown[:shownWatched] {
		if s.Head[34] != byte(i) {
			t.Fatalf("packet %d is %d", i, s.Head[34])
		}
	}
}

func TestWatch(t *testing.T) {
	l := newLab(t)
	log := openLog(t)
	must(t, log.Bind())
	_, err := l.gate.Set(t.Context(), wanted)
	must(t, err)
	prefix := netip.MustParsePrefix
	forwarded := udp("10.1.0.2", "100.64.0.1", 500)
	for _, tt := range []struct {
		name   string
		watch  plane.Watch
		packet []byte
		fits   bool
	}{
		{"anything", plane.Watch{}, forwarded, true},
		{"anything of IPv6", plane.Watch{}, esp("2001:db8:a::2", "2001:db8:5::1"), true},
		{"from a host", plane.Watch{Src: prefix("10.1.0.2/32")}, forwarded, true},
		{"from another", plane.Watch{Src: prefix("10.1.0.3/32")}, forwarded, false},
		{"from a prefix", plane.Watch{Src: prefix("10.1.0.0/22")}, forwarded, true},
		{"to a prefix that is not written as one", plane.Watch{Dst: prefix("100.64.7.7/10")}, forwarded, true},
		{"to another", plane.Watch{Dst: prefix("100.128.0.0/10")}, forwarded, false},
		{"to all of IPv4", plane.Watch{Dst: prefix("0.0.0.0/0")}, forwarded, true},
		{"to all of IPv6", plane.Watch{Dst: prefix("::/0")}, forwarded, false},
		{"to IPv6", plane.Watch{Dst: prefix("2001:db8:5::/48")}, esp("2001:db8:a::2", "2001:db8:5::1"), true},
		{"a protocol", plane.Watch{Proto: protoUDP}, forwarded, true},
		{"another protocol", plane.Watch{Proto: protoESP}, forwarded, false},
		{"a port", plane.Watch{DstPort: 500}, forwarded, true},
		{"another port", plane.Watch{DstPort: 501}, forwarded, false},
		{"both ports", plane.Watch{Proto: protoUDP, SrcPort: 0x3039, DstPort: 500}, forwarded, true},
		{"another source port", plane.Watch{SrcPort: 500, DstPort: 500}, forwarded, false},
		{"a port of TCP", plane.Watch{Proto: 6, DstPort: 500}, forwarded, false},
		{"a port where there is none", plane.Watch{DstPort: 500}, ip("10.1.0.2", "100.64.0.1", protoESP, 0x30, 0x39, 1, 244), false},
		{"a port of ESP", plane.Watch{Proto: protoESP, DstPort: 500}, ip("10.1.0.2", "100.64.0.1", protoESP, 0x30, 0x39, 1, 244), false},
	} {
		must(t, log.Watch(tt.watch, []string{"tun0", "in0"}, time.Hour))
		send(l.target, "eth0", l.dir, "in0", tt.packet)
		send(l.rs, "eth0", l.dir, "rs0", udp("10.2.0.2", "10.1.0.2", 500)) // by an interface that is not watched
		l.noRole()
		shown := until(t, log)
		if fits := len(shown) == 1; fits != tt.fits || len(shown) > 1 {
			t.Errorf("%s: shown %+v; it fits: %t", tt.name, shown, tt.fits)
		}
		for _, s := range shown {
			if !s.Watched || s.Reason != plane.None || s.Interface != "in0" || s.Length != 14+len(tt.packet) || !bytes.Equal(s.Head[14:], tt.packet) {
				t.Errorf("%s: shown %+v", tt.name, s)
			}
		}
	}
	for name, w := range map[string]plane.Watch{
		"families":  {Src: prefix("10.0.0.0/8"), Dst: prefix("2001:db8::/32")},
		"in 4 in 6": {Src: prefix("::ffff:10.0.0.0/104")},
	} {
		if err := log.Watch(w, []string{"in0"}, time.Hour); err == nil {
			t.Errorf("%s: watched", name)
		}
	}
}

// The kernel ends a watch in its time, with nobody's help. What is dropped is shown as before.
func TestWatchEndsByItself(t *testing.T) {
	l := newLab(t)
	log := openLog(t)
	must(t, log.Bind())
	_, err := l.gate.Set(t.Context(), wanted)
	must(t, err)
	tables := func(want string) {
		t.Helper()
		there, err := log.watch.There()
		must(t, err)
		if got := fmt.Sprint(there); got != want {
			t.Errorf("the table of the watch is there: %s, want %s", got, want)
		}
	}
	seen := func() int {
		t.Helper()
		send(l.target, "eth0", l.dir, "in0", udp("10.1.0.2", "100.64.0.1", 500))
		l.noRole()
		return len(until(t, log))
	}
	tables("false")
	must(t, log.Watch(plane.Watch{}, []string{"in0"}, time.Hour))
	if seen() != 1 {
		t.Fatal("what is watched was not shown: this test cannot fail")
	}
	const short = 300 * time.Millisecond
	must(t, log.Watch(plane.Watch{}, []string{"in0"}, short))
	time.Sleep(short + 100*time.Millisecond) // the kernel counts in its own ticks
	if n := seen(); n != 0 {
		t.Errorf("after its end: %d packets were shown", n)
	}
	tables("true")
	must(t, log.Watch(plane.Watch{}, nil, 0))
	must(t, log.Watch(plane.Watch{}, nil, 0))
	tables("false")
	must(t, log.Watch(plane.Watch{}, []string{"in0"}, time.Hour))
	must(t, l.gate.Remove())
	tables("false")
}

// One program at a time can listen; the next one can when that has gone.
func TestGroupIsTaken(t *testing.T) {
	spaces.New(t, 1)
	first, second := openLog(t), openLog(t)
	must(t, first.Bind())
	must(t, first.Bind())
	for range 2 {
		if err := second.Bind(); err == nil || !strings.Contains(err.Error(), "another program listens") {
			t.Errorf("two listen: %v", err)
		}
	}
	must(t, first.Close())
	must(t, second.Bind())
}

// A kernel that cannot log has a gate that drops and counts as ever. Such a kernel is one that knows no set of that name here.
func TestKernelCannotLog(t *testing.T) {
	l := newLab(t)
	l.standIn = standIn(t)
	must(t, l.gate.Shows())
	k, err := ruleset.Open(structure(layout, func(plane.Reason) []expr.Any { return ruleset.Within("absent", ruleset.In()) }))
	must(t, err)
	l.gate = &Gate{table: k}
	t.Cleanup(func() { l.gate.Close() })
	must(t, l.gate.Seal(t.Context(), sync))
	_, err = l.gate.Set(t.Context(), wanted)
	must(t, err)
	if err := l.gate.Shows(); !errors.Is(err, plane.ErrUnsupported) {
		t.Errorf("shows: %v", err)
	}
	if got := l.count(t, l.site, "tun0", udp(known4, vip4, 499), udp(away4, vip4, 500)); got != "bad_source 1, no_service 1" {
		t.Errorf("counted %q", got)
	}
	if sealed, err := l.gate.Sealed(sync); err != nil || !sealed {
		t.Errorf("sealed %v (%v)", sealed, err)
	}
	if changed, err := l.gate.Set(t.Context(), wanted); err != nil || changed {
		t.Errorf("set again: changed %v (%v)", changed, err)
	}
	changed, err := openGate(t).Set(t.Context(), wanted) // a kernel that can, and a start
	if err != nil || !changed {
		t.Errorf("changed %v (%v)", changed, err)
	}
}
