package ipvs

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"tunneldirector/director/plane"
	"tunneldirector/integration/spaces"
)

// A neighbour that comes, goes or has another MAC address is told at once; that the kernel has found it as it was is not.
func TestNeighboursAreWatched(t *testing.T) {
	s := spaces.New(t, 2)
	s[0].Sysctl("net/ipv6/conf/default/disable_ipv6", "1") // its own neighbours come when they like
	for _, name := range []string{"rs0", "tun0"} {
		spaces.Wire(s[0], name, s[1], name)
	}
	l, err := openLand([]plane.Interface{{Name: "rs0", Roles: plane.RoleRealServers}, {Name: "tun0", Roles: plane.RoleTunnel}})
	must(t, err)
	t.Cleanup(func() { must(t, l.Close()) })
	ctx, cancel := context.WithCancel(t.Context())
	told, ended := make(chan struct{}, 100), make(chan error, 1)
	go func() { ended <- l.Watch(ctx, func() { told <- struct{}{} }) }()
	defer func() {
		cancel()
		must(t, <-ended)
	}()
	a, b := netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("10.9.0.2")
	set := func(link string, a netip.Addr, mac byte, state int) {
		n := &netlink.Neigh{LinkIndex: s[0].Link(link).Attrs().Index, IP: a.AsSlice(), State: state}
		if mac != 0 {
			n.HardwareAddr = net.HardwareAddr{2, 0, 0, 9, 0, mac}
		}
		must(t, netlink.NeighSet(n))
	}
	mac := func(n byte) [6]byte { return [6]byte{2, 0, 0, 9, 0, n} }
	for deadline := time.Now().Add(10 * time.Second); len(told) == 0; time.Sleep(10 * time.Millisecond) { // until Watch listens
		if time.Now().After(deadline) {
			t.Fatal("nothing is told")
		}
		set("rs0", netip.MustParseAddr("10.9.0.99"), 1|byte(time.Now().Nanosecond()/1000), netlink.NUD_STALE)
	}
	for _, step := range []struct {
		name string
		do   func()
		told bool
		want map[netip.Addr][6]byte
	}{
		{"it comes", func() { set("rs0", a, 1, netlink.NUD_STALE) }, true, map[netip.Addr][6]byte{a: mac(1)}},
		{"it is found as it was", func() { set("rs0", a, 1, netlink.NUD_PERMANENT) }, false, map[netip.Addr][6]byte{a: mac(1)}},
		{"another one", func() { set("rs0", b, 2, netlink.NUD_STALE) }, true, map[netip.Addr][6]byte{a: mac(1), b: mac(2)}},
		{"it is replaced", func() { set("rs0", a, 3, netlink.NUD_STALE) }, true, map[netip.Addr][6]byte{a: mac(3), b: mac(2)}},
		{"it is not found", func() { set("rs0", a, 0, netlink.NUD_FAILED) }, true, map[netip.Addr][6]byte{b: mac(2)}},
		{"it is deleted", func() {
			must(t, netlink.NeighDel(&netlink.Neigh{LinkIndex: s[0].Link("rs0").Attrs().Index, IP: b.AsSlice()}))
		}, true, map[netip.Addr][6]byte{}},
	} {
		drain(told)
		step.do()
		if step.told {
			select {
			case <-told:
			case <-time.After(10 * time.Second):
				t.Errorf("%s: not told", step.name)
			}
		} else {
			set("rs0", netip.MustParseAddr("10.9.0.99"), 0, netlink.NUD_FAILED) // behind it
			<-told
			time.Sleep(10 * time.Millisecond)
			if len(told) > 0 {
				t.Errorf("%s: told", step.name)
			}
		}
		have, err := l.Neighbours()
		must(t, err)
		delete(have, netip.MustParseAddr("10.9.0.99"))
		if d := cmp.Diff(step.want, have, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" {
			t.Errorf("%s (-want +got):\n%s", step.name, d)
		}
	}
}

// drain lets go of what was told before.
func drain(told chan struct{}) {
	for {
		select {
		case <-told:
		case <-time.After(50 * time.Millisecond):
			return
		}
	}
}
