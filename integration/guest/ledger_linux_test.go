package guest

import (
	"net/netip"

	"tunneldirector/integration/lab"
)

// A ledger holds what sites and target put on the wire for the director, to be compared with what real servers were given:
// what is missing there the director lost, and what else is missing the tunnels' software did.
type ledger struct {
	rig    *rig
	since  mark
	sites  map[*lab.Site]*lab.Capture
	target *lab.Capture
}

// open begins to keep a ledger of sites.
func (r *rig) open(sites ...*lab.Site) *ledger {
	r.Helper()
	g := &ledger{rig: r, sites: map[*lab.Site]*lab.Capture{}}
	var err error
	for _, s := range sites {
		g.sites[s], err = s.NS.Capture(s.Port)
		r.must("capture", err)
	}
	g.target, err = r.Target.Capture(r.Target.Inner)
	r.must("capture", err)
	g.since = r.w.mark()
	return g
}

// count is how many of the packets seen go from one of some addresses to another.
func count(seen []lab.Seen, which func(src, dst netip.Addr) bool) int {
	n := 0
	for _, p := range seen {
		if which(p.Src, p.Dst) {
			n++
		}
	}
	return n
}

// close insists that real servers were given as many packets as were sent. Call it when all that was sent has arrived.
func (g *ledger) close() {
	r := g.rig
	r.Helper()
	sent, given := map[netip.Addr]int{}, map[netip.Addr]int{} // by endpoint: some sites share one
	for s, c := range g.sites {
		sent[s.Endpoint] += count(c.Seen(), func(src, dst netip.Addr) bool { return src == s.Local && dst == s.VIP })
		given[s.Endpoint] = 0
		back, got := count(g.target.Seen(), func(_, dst netip.Addr) bool { return inside(s, dst) }), 0
		for _, m := range r.w.met(s, g.since) {
			given[s.Endpoint] += m.Tunnel
			got += m.Subnet
		}
		if got != back || back == 0 {
			r.Errorf("%s: the target sent %d packets to it, real servers were given %d", s.Name, back, got)
		}
		if err := c.Close(); err != nil {
			r.Errorf("capture: %v", err)
		}
	}
	for endpoint, n := range sent {
		if given[endpoint] != n || n == 0 {
			r.Errorf("%s sent %d packets to the VIP, real servers were given %d", endpoint, n, given[endpoint])
		}
	}
	if err := g.target.Close(); err != nil {
		r.Errorf("capture: %v", err)
	}
}

// forgiving ends flows and tells how many of all packets were lost. The ledger says whose fault it was.
func (r *rig) forgiving(flows []*flow) (sent, lost int) {
	r.Helper()
	out, in := r.stopAll(flows...)
	for k := range flows {
		sent += len(out[k]) + len(in[k])
		lost += lab.CountLost(out[k]) + lab.CountLost(in[k])
	}
	return sent, lost
}
