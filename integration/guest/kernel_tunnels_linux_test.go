package guest

import (
	"slices"
	"testing"
	"time"

	"tunneldirector/integration/daemon"
	"tunneldirector/integration/lab"
)

// carried are the kinds of tunnels that each plane forwards by direct routing, in labs with and without IPv6: IPVS has no AH
// in IPv6.
var carried = map[string][]struct {
	ipv6  bool
	kinds []kind
}{
	"xdp":  {{true, []kind{esp, ah, wireguard, l2tpUDP, l2tpIP, gre, gretap, ipip}}},
	"ipvs": {{true, []kind{esp, wireguard, l2tpUDP}}, {false, []kind{ah}}},
}

// TestKernelTunnels: tunnels that the kernel makes itself, over IPv4 and IPv6, work both ways, and each meets one real
// server only. Nobody ever sends an IKE packet for the IPsec among them.
func TestKernelTunnels(t *testing.T) {
	onPlanes(t, func(t *testing.T, plane string) {
		for _, c := range carried[plane] {
			const each = 4 // two of a family, for two real servers to meet at
			r := newRig(t, setup{
				plane: plane, lab: lab.Options{Sites: each * len(c.kinds), RealServers: 2, IPv6: c.ipv6}, service: serviceFor("dr", c.kinds...),
			})
			r.serve()
			for i, k := range c.kinds {
				t.Run(k.name, func(t *testing.T) { r.sub(t).bothWays(k, oneSubnet(k, r.Sites[each*i:each*(i+1)]...)) })
			}
		}
	})
}

// serviceFor is a virtual service for tunnels of the kernel; what is not IPsec has its address in a neighbour table to be
// known by.
func serviceFor(method string, kinds ...kind) daemon.VirtualService {
	s := daemon.VirtualService{Name: "kernel", Method: method, Check: "none"}
	for _, k := range kinds {
		s.Protocols = append(s.Protocols, k.protocols...)
	}
	slices.Sort(s.Protocols)
	s.Protocols = slices.Compact(s.Protocols)
	return s
}

// bring makes sites' tunnels known and brings them up.
func (r *rig) bring(k kind, sites ...*lab.Site) {
	r.Helper()
	r.must("push", r.d.Push(r.ctx, sites...))
	r.meet(k, sites...)
}

// meet joins the ends of sites' tunnels and waits for the first answers through them.
func (r *rig) meet(k kind, sites ...*lab.Site) {
	r.Helper()
	r.must("join", join(r.Lab, k, sites...))
	flows := r.flows(sites...)
	for _, f := range flows {
		r.flowing(f, 30*time.Second)
	}
	r.stopAll(flows...)
}

// bothWays brings tunnels up and insists that all that is sent through them arrives, and where.
func (r *rig) bothWays(k kind, sites []*lab.Site) {
	since := r.w.mark()
	r.bring(k, sites...)
	at := map[string]bool{}
	for _, s := range sites {
		r.ping(s, 5)
		const count = 5
		if good, err := r.EchoUDP(r.ctx, s.NS, s.Inside[0], r.target(s.Inside[0]), count, 1200); err != nil || good != count {
			r.Errorf("%s by %s: %d of %d datagrams came back whole: %v", s.Name, s.VIP, good, count, err)
		}
		rs := r.placed(s)
		at[rs.Name] = true
		if at := r.inIPIP(s, since); len(at) > 0 && !slices.Equal(at, []string{rs.Name}) {
			r.Errorf("%s is at %s; what it sent in IPIP was given to %v", s.Name, rs.Name, at)
		} else if len(at) == 0 {
			r.together(s, rs, since)
		}
	}
	if len(at) != len(r.RealServers) {
		r.Errorf("the tunnels are all at %v: nothing shows that they are told apart", at)
	}
}

// inIPIP are the real servers that were given what a site had put into IPIP itself: a capture tells what is inside.
func (r *rig) inIPIP(s *lab.Site, since mark) []string {
	var at []string
	for name, c := range r.w.captures {
		if slices.ContainsFunc(c.Seen()[since[name]:], func(p lab.Seen) bool { return p.InIPIP && inside(s, p.Src) }) {
			at = append(at, name)
		}
	}
	return at
}
