package gate

import (
	"net"
	"testing"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tunneldirector/director/plane"
	"tunneldirector/director/vip/ruleset"
	"tunneldirector/integration/spaces"
)

// noted counts what leaves, and what of that has a priority that others would see.
func noted(t *testing.T) *ruleset.Keeper {
	t.Helper()
	table := ruleset.New("noted", "1")
	table.Counter("left", "noted")
	out := table.Hook("postrouting", nftables.ChainHookPostrouting, 0)
	for v, a := range map[int]string{4: "100.64.0.1", 6: "2001:db8:5::1"} {
		to := append(ruleset.Family(v), ruleset.Is(ruleset.Dst(v), addr(a).AsSlice()...)...)
		table.Rule(out, to, ruleset.Count("left"))
		table.Rule(out, to, ruleset.IsNot(ruleset.Priority(), 0, 0, 0, 0), ruleset.Count("noted"))
	}
	return keep(t, table)
}

// sendFrom sends a packet to the director in a frame from a MAC address.
func sendFrom(s spaces.Space, mac net.HardwareAddr, to spaces.Space, toName string, packet []byte) {
	s.T.Helper()
	etherType := []byte{8, 0}
	if packet[0]>>4 == 6 {
		etherType = []byte{0x86, 0xdd}
	}
	dst := to.Link(toName).Attrs().HardwareAddr
	s.Do(func() {
		l, err := netlink.LinkByName("eth0")
		must(s.T, err)
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
		must(s.T, err)
		defer unix.Close(fd)
		frame := append(append(append(append([]byte{}, dst...), mac...), etherType...), packet...)
		must(s.T, unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: l.Attrs().Index, Halen: 6}))
	})
}

// What a real server sends to a subnet behind itself does not go back to it; it is counted and shown as it came. What IPVS sends is tested
// with it, in package ipvs.
func TestReturnedToItsSender(t *testing.T) {
	l := newLab(t)
	l.standIn = standIn(t)
	table := noted(t)
	log := openLog(t)
	must(t, log.Bind())
	rs, other := [6]byte(l.rs.Link("eth0").Attrs().HardwareAddr), [6]byte{2, 9, 9, 9, 9, 9}
	host := [6]byte(l.target.Link("eth0").Attrs().HardwareAddr)
	v4, v6 := addr("10.2.0.2"), addr("2001:db8:b::2")
	for _, tt := range []struct {
		name       string
		neighbours []Neighbour
		from       [6]byte
		cut        bool
	}{
		{"no MAC address is known", nil, rs, false},
		{"from the real server that it would go to", []Neighbour{{v4, rs}, {v6, rs}}, rs, true},
		{"from a target host", []Neighbour{{v4, rs}, {v6, rs}}, host, false},
		{"from another real server", []Neighbour{{v4, rs}, {v6, rs}, {addr("10.2.0.3"), other}, {addr("2001:db8:b::3"), other}}, other, false},
		{"from where the real server was before it was replaced", []Neighbour{{v4, other}, {v6, other}}, rs, false},
		{"from where it is now", []Neighbour{{v4, other}, {v6, other}}, other, true},
		{"from a neighbour whose mark another has, too", []Neighbour{{v4, rs}, {v6, rs}, {addr("10.2.0.3"), [6]byte{2, ^rs[1], rs[2], rs[3], rs[4], rs[5]}}}, rs, false},
		{"from a router to a real server behind it", []Neighbour{{addr("10.3.0.2"), host}, {addr("2001:db8:c::2"), host}}, host, false},
	} {
		w := wanted
		w.Neighbours = tt.neighbours
		_, err := l.gate.Set(t.Context(), w)
		must(t, err)
		before, err := table.Counters()
		must(t, err)
		cut := l.counts(t)[counterLoop]
		packets := [][]byte{udp("10.1.0.2", "100.64.0.1", 500), udp("2001:db8:a::2", "2001:db8:5::1", 500)}
		for _, p := range packets {
			sendFrom(l.target, tt.from[:], l.dir, "in0", p)
		}
		l.count(t, l.target, "in0") // when it returns they are through
		l.noRole()
		after, err := table.Counters()
		must(t, err)
		cut = l.counts(t)[counterLoop] - cut
		left := after["left"].Packets - before["left"].Packets
		if want := map[bool]uint64{true: 2}[tt.cut]; cut != want || left != 2-want {
			t.Errorf("%s: %d cut and %d left, want %d cut of 2", tt.name, cut, left, want)
		}
		if n := after["noted"].Packets - before["noted"].Packets; n != 0 {
			t.Errorf("%s: %d leave with a priority", tt.name, n)
		}
		shown := until(t, log)
		if len(shown) != int(cut) {
			t.Errorf("%s: shown %d of %d", tt.name, len(shown), cut)
		}
		for _, s := range shown {
			if s.Reason != plane.DropLoop || s.Interface != "in0" || [6]byte(s.Head[6:12]) != tt.from {
				t.Errorf("%s: shown %+v", tt.name, s)
			}
		}
	}
}
