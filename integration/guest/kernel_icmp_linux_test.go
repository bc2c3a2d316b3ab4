package guest

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tunneldirector/integration/lab"
)

// TestTooBigReachesTheRealServer: a router on the way to a site tells the VIP that a packet was too big; that comes to the
// real server that sent it, and to no other.
func TestTooBigReachesTheRealServer(t *testing.T) {
	onPlanes(t, func(t *testing.T, plane string) {
		r := newRig(t, setup{plane: plane, lab: lab.Options{Sites: 8, RealServers: 2, IPv6: true}, service: serviceFor("dr", datagrams, esp)})
		r.serve()
		for _, s := range r.Sites {
			r.narrow(s, 1400) // and so 1280 inside of ESP over IPv6, which has to fit
		}
		t.Run("udp", func(t *testing.T) {
			r := r.sub(t)
			sites := oneSubnet(datagrams, r.Sites[:4]...)
			r.must("push", r.d.Push(r.ctx, sites...))
			for _, s := range sites {
				rs, since := r.placed(s), r.w.mark()
				c := r.socket(rs.NS, netip.AddrPortFrom(s.VIP, datagramPort))
				r.send(c, netip.AddrPortFrom(s.Endpoint, 40000), 1, 1450)
				c.Close()
				r.told(s, rs, since)
			}
		})
		t.Run("esp", func(t *testing.T) {
			r := r.sub(t)
			sites := oneSubnet(esp, r.Sites[4:]...)
			r.bring(esp, sites...)
			for _, s := range sites {
				rs, since := r.placed(s), r.w.mark()
				r.transfer(s, 20_000)
				r.told(s, rs, since)
				r.together(s, rs, since, "esp")
			}
		})
	})
}

// transfer insists that TCP from the target to a site finds the path's MTU: a black hole would never end.
func (r *rig) transfer(s *lab.Site, size int) {
	r.Helper()
	done := make(chan error, 1)
	go func() {
		_, err := r.TransferTCP(r.ctx, r.Target.Namespace, r.target(s.Inside[0]), s.Inside[0], size)
		done <- err
	}()
	select {
	case err := <-done:
		r.must("transfer to "+s.Name, err)
	case <-time.After(10 * time.Second):
		r.Fatalf("transfer to %s: not done after 10 s", s.Name)
	}
}

// narrow lets the router have a path of a smaller MTU to a site.
func (r *rig) narrow(s *lab.Site, mtu int) {
	r.Helper()
	r.must("narrow the way to "+s.Name, r.Router.Run(func() error {
		l, err := netlink.LinkByName(r.Router.Sites.Name)
		if err != nil {
			return err
		}
		route := &netlink.Route{Dst: ipNet(netip.PrefixFrom(s.Endpoint, s.Endpoint.BitLen())), LinkIndex: l.Attrs().Index, MTU: mtu}
		if s.Endpoint.Is4() {
			route.Scope = netlink.SCOPE_LINK
		}
		return netlink.RouteReplace(route)
	}))
}

// told insists that since a moment one real server alone was told that a packet to a site was too big.
func (r *rig) told(s *lab.Site, at *lab.RealServer, since mark) {
	r.Helper()
	tooBig := func(name string) (n int) {
		for _, p := range r.w.captures[name].Seen()[since[name]:] {
			v4 := p.Proto == unix.IPPROTO_ICMP && p.Type == 3
			if p.Dst == s.VIP && (v4 || p.Proto == unix.IPPROTO_ICMPV6 && p.Type == 2) {
				n++
			}
		}
		return n
	}
	r.until(30*time.Second, "too big about "+s.Name, func() error {
		if tooBig(at.Name) == 0 {
			return fmt.Errorf("%s was told nothing", at.Name)
		}
		return nil
	})
	for name := range r.w.captures {
		if n := tooBig(name); name != at.Name && n > 0 {
			r.Errorf("%s is at %s, and %s was told %d times", s.Name, at.Name, name, n)
		}
	}
}
