package terminators

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"tunneldirector/integration/lab"
	"tunneldirector/realserver/terminator"
)

// TestWireGuardAdopt: a successor has the tunnel in a moment, though the site knows of nothing and is idle; and so has the
// first one again, where the keys of before still are.
func TestWireGuardAdopt(t *testing.T) {
	for i, family := range []string{"IPv4", "IPv6"} {
		t.Run(family, func(t *testing.T) {
			r := newWireGuardRig(t, i+1)
			s := r.from
			before := r.tunnelOf(r.drivers[0], s, 20*time.Second)
			if before.Local != s.VIP || len(before.Subnets) != len(s.Subnets) || before.Endpoint.Port() == 0 || before.Rx == 0 {
				t.Errorf("the tunnel is told as %+v", before)
			}
			time.Sleep(flood)
			begin := time.Now()
			r.pin(s, 1)
			r.must("adopt", r.drivers[1].Adopt(t.Context(), inherited(s, before)))
			measured(t, "WireGuard, "+family+", adopt at a fresh successor", r.flows(s, begin, 20*time.Second))
			after := r.tunnelOf(r.drivers[1], s, 10*time.Second)
			if after.Peer != before.Peer || after.Endpoint != before.Endpoint || !after.Since.After(before.Since) {
				t.Errorf("before %+v, after %+v", before, after)
			}
			text, err := r.devices[1].IpcGet()
			if err != nil || !strings.Contains(text, "preshared_key="+r.shared) || !strings.Contains(text, "persistent_keepalive_interval=0") {
				t.Errorf("the peer's configuration has changed: %v", err)
			}

			time.Sleep(flood)
			begin = time.Now()
			r.pin(s, 0)
			again := inherited(s, after)
			again.Peer = "" // found by its subnets
			r.must("adopt", r.drivers[0].Adopt(t.Context(), again))
			measured(t, "WireGuard, "+family+", adopt where a stale tunnel was", r.flows(s, begin, 20*time.Second))

			r.must("release", r.drivers[1].Release(t.Context(), inherited(s, before)))
			r.gone(r.drivers[1], s, 20*time.Second)
			r.tunnelOf(r.drivers[0], s, 10*time.Second)
			w, err := r.drivers[0].Work(t.Context())
			r.must("work", err)
			if len(w.Processes) != 1 || w.Processes[0] != os.Getpid() || w.Sockets[0].Port() != lab.WireGuardPort {
				t.Errorf("it works with %+v", w)
			}
		})
	}
}

// flood is longer than the time in which WireGuard takes only one handshake of a peer.
const flood = 100 * time.Millisecond

// TestWireGuardSource: where a handshake would not leave from the VIP, none is sent.
func TestWireGuardSource(t *testing.T) {
	r := newWireGuardRig(t, 1)
	s, rs := r.from, r.RealServers[1]
	at := inherited(s, r.tunnelOf(r.drivers[0], s, 20*time.Second))
	r.must("route from elsewhere", rs.NS.Run(func() error {
		dev, err := netlink.LinkByName(rs.DR.Name)
		if err != nil {
			return err
		}
		any := &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}
		return netlink.RouteReplace(&netlink.Route{Dst: any, Gw: r.Router.RS.Addrs[0].AsSlice(), LinkIndex: dev.Attrs().Index})
	}))
	c, err := rs.NS.Capture(rs.DR)
	r.must("capture", err)
	defer c.Close()
	err = r.drivers[1].Adopt(t.Context(), at)
	if !errors.Is(err, terminator.ErrWait) || !strings.Contains(err.Error(), rs.DR.Addrs[0].String()) {
		t.Errorf("adopt: %v", err)
	}
	elsewhere := at
	elsewhere.Endpoint = netip.AddrPortFrom(netip.MustParseAddr("2001:db8:ffff::1"), 7)
	elsewhere.Local = netip.Addr{} // any VIP will do
	r.must("adopt by the other family, whose route is right", r.drivers[1].Adopt(t.Context(), elsewhere))
	time.Sleep(300 * time.Millisecond)
	for _, p := range c.Seen() {
		if p.Dst == s.Endpoint {
			t.Errorf("sent to the site: %+v", p)
		}
	}
}
