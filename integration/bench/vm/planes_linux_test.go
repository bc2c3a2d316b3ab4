package vm

import (
	"context"
	"net/netip"
	"testing"

	lvs "github.com/moby/ipvs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
	"tunneldirector/director/plane/ipvs"
	"tunneldirector/director/plane/xdp"
)

// routed lets the kernel's routing forward.
func (w *way) routed() {
	w.director.do("route", func() error {
		out, err := netlink.LinkByName("out")
		if err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{Dst: ipNet(netip.PrefixFrom(vip, 32)), Gw: servers[0].AsSlice(), LinkIndex: out.Attrs().Index})
	})
}

// stock lets IPVS forward as its tools set it up: it learns, from each endpoint's first packet, and remembers.
func (w *way) stock() {
	w.director.address("lo", netip.PrefixFrom(vip, 32))
	w.director.do("set IPVS up", func() error {
		h, err := lvs.New("")
		if err != nil {
			return err
		}
		defer h.Close()
		const persistent = 0x1 // IP_VS_SVC_F_PERSISTENT
		s := &lvs.Service{
			AddressFamily: unix.AF_INET, Protocol: unix.IPPROTO_UDP, Address: vip.AsSlice(), Port: vipPort, SchedName: "rr",
			Flags: persistent, Timeout: 3600, Netmask: 0xffffffff,
		}
		if err := h.NewService(s); err != nil {
			return err
		}
		for _, a := range servers {
			d := &lvs.Destination{AddressFamily: unix.AF_INET, Address: a.AsSlice(), Port: vipPort, Weight: 1, ConnectionFlags: lvs.ConnFwdDirectRoute}
			if err := h.NewDestination(s, d); err != nil {
				return err
			}
		}
		return nil
	})
}

var roles = []plane.Interface{{Name: "in", Roles: plane.RoleTunnel}, {Name: "out", Roles: plane.RoleRealServers}}

// ipvs opens the plane at the way's director.
func (w *way) ipvs(t *testing.T) *ipvs.Plane {
	t.Helper()
	w.director.address("lo", netip.PrefixFrom(vip, 32))
	var p *ipvs.Plane
	w.director.do("open plane ipvs", func() (err error) {
		p, err = ipvs.Open(ipvs.Options{Interfaces: roles})
		return err
	})
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Errorf("close plane ipvs: %v", err)
		}
	})
	return p
}

// xdp opens the plane at the way's director, and runs it: it has to find out where the real servers are.
func (w *way) xdp(t *testing.T) *xdp.Plane {
	t.Helper()
	const pins = "/sys/fs/bpf/bench"
	var p *xdp.Plane
	w.director.do("open plane xdp", func() (err error) {
		p, err = xdp.Open(xdp.Options{PinPath: pins, Interfaces: roles, MaxPins: 200_000, MaxSubnets: 1000})
		return err
	})
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		for _, err := range []error{<-ended, p.Close(), xdp.Uninstall(pins)} {
			if err != nil {
				t.Errorf("close plane xdp: %v", err)
			}
		}
	})
	return p
}

// config is a service with two real servers.
func config(method affinity.Method) plane.Config {
	c := plane.Config{
		Own: []netip.Addr{inside.Addr(), outside.Addr()},
		Services: []plane.Service{{
			Num: 1, Name: "bench", VIPs: []netip.Addr{vip}, Match: []affinity.Match{{Proto: unix.IPPROTO_UDP, Lo: vipPort, Hi: vipPort}}, Method: method,
		}},
	}
	for i, a := range servers {
		c.RealServers = append(c.RealServers, plane.RealServer{
			Index: affinity.Index(i + 1), Name: a.String(), Addrs: []netip.Addr{a}, Method: method, Alive: true,
		})
	}
	return c
}

// pins are those of sources from one to another; all at the same primary, with the other real server for a backup, or half of
// them at each.
func pins(from, to int, primary func(i int) affinity.Index) []plane.Entry {
	var out []plane.Entry
	for i := from; i < to; i++ {
		p := primary(i)
		out = append(out, plane.Entry{Endpoint: plane.EndpointKey{VIP: vip, Addr: source(i)}, Target: plane.Target{Primary: p, Backup: 3 - p}})
	}
	return out
}

func inTurns(i int) affinity.Index { return affinity.Index(1 + i%2) }
func atOther(i int) affinity.Index { return affinity.Index(2 - i%2) }
func atFirst(int) affinity.Index   { return 1 }

// fill gives a plane the configuration and the pins of n sources, in batches as a push comes.
func fill(t *testing.T, p plane.Plane, method affinity.Method, n int, primary func(int) affinity.Index) {
	t.Helper()
	c := config(method)
	must(t, "configure the plane", p.Replace(t.Context(), c, func(func(plane.Entry) bool) {}))
	apply(t, p, n, primary)
}

// batch is how many pins are applied at once.
const batch = 10_000

func apply(t *testing.T, p plane.Plane, n int, primary func(int) affinity.Index) {
	t.Helper()
	for i := 0; i < n; i += batch {
		must(t, "apply pins", p.Apply(t.Context(), plane.Update{Entries: pins(i, min(n, i+batch), primary)}))
	}
}
