package guest

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tunneldirector/integration/lab"
)

// TestMethodTunnel: packets come to the real servers in IPIP and are taken out there, in both families, and what is too
// large for that and must not be fragmented is told so.
func TestMethodTunnel(t *testing.T) {
	onPlanes(t, func(t *testing.T, plane string) {
		kinds := []kind{esp, wireguard, l2tpUDP} // the last by sites whose numbers its ports allow for
		if plane == "xdp" {
			kinds = append(kinds, ah, gre, gretap, l2tpIP, ipip)
		}
		r := newRig(t, setup{
			plane: plane, lab: lab.Options{Sites: 4*len(kinds) + 4, RealServers: 2, IPv6: true, Decapsulate: true},
			service: serviceFor("tunnel", append(slices.Clone(kinds), datagrams)...),
		})
		r.serve()
		r.answerAsVIP()
		for i, k := range kinds {
			t.Run(k.name, func(t *testing.T) {
				r := r.sub(t)
				sites, since := oneSubnet(k, r.Sites[4*i:4*i+4]...), r.w.mark()
				r.bothWays(k, sites)
				for _, s := range sites {
					r.wrapped(s, since)
				}
			})
		}
		if plane == "ipvs" { // which knows AH in IPv4 only
			t.Run(ah.name, func(t *testing.T) {
				r := newRig(t, setup{plane: plane, lab: lab.Options{Sites: 4, RealServers: 2, Decapsulate: true}, service: serviceFor("tunnel", ah)})
				r.serve()
				since := r.w.mark()
				sites := oneSubnet(ah, r.Sites...)
				r.bothWays(ah, sites)
				for _, s := range sites {
					r.wrapped(s, since)
				}
			})
		}
		t.Run("path MTU", func(t *testing.T) { r.sub(t).tooBigForIPIP(oneSubnet(datagrams, r.Sites[4*len(kinds):]...)) })
	})
}

// answerAsVIP makes the VIP the source of what real servers send by their default route. WireGuard in the kernel answers from
// the address that it was spoken to at only where the answer leaves by the interface that the question came in by
// (send4 in drivers/net/wireguard/socket.c), which the device that takes packets out of IPIP is not.
func (r *rig) answerAsVIP() {
	r.Helper()
	for _, rs := range r.RealServers {
		r.must("route by the VIP's address", rs.NS.Run(func() error {
			l, err := netlink.LinkByName(rs.DR.Name)
			for i, vip := range r.VIPs {
				if err == nil {
					none := netip.PrefixFrom(vip, 0).Masked()
					err = netlink.RouteReplace(&netlink.Route{Dst: ipNet(none), Gw: r.Router.RS.Addrs[i].AsSlice(), LinkIndex: l.Attrs().Index, Src: vip.AsSlice()})
				}
			}
			return err
		}))
	}
}

// wrapped insists that all that a site's real server was given since a moment came in IPIP, both ways, and that the site spoke
// to the VIP alone.
func (r *rig) wrapped(s *lab.Site, since mark) {
	r.Helper()
	at, n := r.placed(s), 0
	for _, p := range r.w.captures[at.Name].Seen()[since[at.Name]:] {
		mine := p.Src == s.Endpoint && p.Dst == s.VIP || inside(s, p.Dst)
		switch {
		case p.Src == s.Endpoint && p.Dst != s.VIP:
			r.Errorf("%s: %s was given %+v, past the director", s.Name, at.Name, p)
			return
		case mine && !p.InIPIP:
			r.Errorf("%s: %s was given %+v, want all in IPIP", s.Name, at.Name, p)
			return
		case mine:
			n++
		}
	}
	if n == 0 {
		r.Errorf("%s: %s was given nothing", s.Name, at.Name)
	}
}

// tooBigForIPIP sends what fits the site's wire and, with 20 or 40 bytes around it, not the real servers'.
func (r *rig) tooBigForIPIP(sites []*lab.Site) {
	r.must("push", r.d.Push(r.ctx, sites...))
	at := map[netip.Addr]map[string]*inbox{}
	for _, vip := range r.VIPs {
		at[vip] = r.inboxes(vip)
	}
	for _, s := range sites {
		rs, since := r.placed(s), r.w.mark()
		fits, probe := 1500-20-20-8, unix.IP_PMTUDISC_PROBE
		if s.VIP.Is6() {
			fits, probe = 1500-40-40-8, unix.IPV6_PMTUDISC_PROBE
		}
		heard, err := s.NS.Capture(s.Port)
		r.must("capture", err)
		c := r.socket(s.NS, netip.AddrPortFrom(s.Endpoint, 40000))
		r.discover(c, probe) // DF, whatever the path's MTU is known to be
		r.send(c, netip.AddrPortFrom(s.VIP, datagramPort), 3, fits+1)
		r.until(30*time.Second, "the director tells "+s.Name, func() error {
			for _, p := range heard.Seen() {
				if p.Dst == s.Endpoint && (p.Proto == unix.IPPROTO_ICMP && p.Type == 3 || p.Proto == unix.IPPROTO_ICMPV6 && p.Type == 2) {
					return nil
				}
			}
			return fmt.Errorf("a datagram of %d bytes with DF: no word that it is too big", fits+1)
		})
		r.must("close the capture", heard.Close())
		if all := r.w.met(s, since); len(all) > 0 {
			r.Errorf("%s: what is too big was given to %+v", s.Name, all)
		}
		r.send(c, netip.AddrPortFrom(s.VIP, datagramPort), 3, fits)
		r.whole(at[s.VIP], s, rs.Name, 3, fits)
	}
}
