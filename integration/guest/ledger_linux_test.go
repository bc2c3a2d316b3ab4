package guest

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

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

// close insists that real servers were given all that was sent.
func (g *ledger) close() {
	r := g.rig
	r.Helper()
	r.until(30*time.Second, "compare what was sent with what real servers were given", g.balance)
	for _, c := range g.sites {
		r.must("capture", c.Close())
	}
	r.must("capture", g.target.Close())
}

// balance is an error while something is missing, on its way or lost. One more than was sent is no fault: it was on its way
// when the ledger was opened.
func (g *ledger) balance() error {
	sent, given := map[string]int{}, map[string]int{}
	for s, c := range g.sites { // some share an endpoint
		to, from := "to "+s.Name, "from "+s.Endpoint.String()
		sent[from] += count(c.Seen(), func(src, dst netip.Addr) bool { return src == s.Local && dst == s.VIP })
		sent[to] = count(g.target.Seen(), func(_, dst netip.Addr) bool { return inside(s, dst) })
		given[from] = 0
		for _, m := range g.rig.w.met(s, g.since) {
			given[from] += m.Tunnel
			given[to] += m.Subnet
		}
	}
	var errs []error
	for what, n := range sent {
		if n == 0 || given[what] < n || given[what] > n+1 {
			errs = append(errs, fmt.Errorf("%s: %d packets were sent, real servers were given %d", what, n, given[what]))
		}
	}
	return errors.Join(errs...)
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
