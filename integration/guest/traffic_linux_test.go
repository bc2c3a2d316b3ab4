package guest

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"tunneldirector/integration/lab"
)

// interval is how often a flow's pings are sent: an emulated machine spends a millisecond on one that is encrypted both ways,
// and a dozen flows are not to keep it busy.
const interval = 200 * time.Millisecond

// brief is how often a few pings are sent that are alone.
const brief = 20 * time.Millisecond

// A flow is pings through a site's tunnel, by the site to the target and by the target to the site.
type flow struct {
	site    *lab.Site
	out, in *lab.Pinger
	end     context.CancelFunc
}

// target is the target's address in the family of a site's first inside address.
func (r *rig) target(inside netip.Addr) netip.Addr {
	for _, a := range r.Target.Inner.Addrs {
		if a.Is4() == inside.Is4() {
			return a
		}
	}
	r.Fatalf("the target has no address for %s", inside)
	return netip.Addr{}
}

// flow starts pings both ways.
func (r *rig) flow(s *lab.Site) *flow {
	r.Helper()
	ctx, cancel := context.WithCancel(r.ctx)
	inside := s.Inside[0]
	out, err := r.StartPing(ctx, s.NS, inside, r.target(inside), interval, 0)
	r.must("ping", err)
	in, err := r.StartPing(ctx, r.Target.Namespace, r.target(inside), inside, interval, 0)
	r.must("ping", err)
	return &flow{site: s, out: out, in: in, end: cancel}
}

func (r *rig) flows(sites ...*lab.Site) []*flow {
	r.Helper()
	var all []*flow
	for _, s := range sites {
		all = append(all, r.flow(s))
	}
	return all
}

// stop ends a flow and returns all pings, those of the site and those of the target.
func (r *rig) stop(f *flow) (out, in []lab.Echo) {
	r.Helper()
	o, i := r.stopAll(f)
	return o[0], i[0]
}

// stopAll is stop for several at once.
func (r *rig) stopAll(flows ...*flow) (out, in [][]lab.Echo) {
	r.Helper()
	for _, f := range flows { // each waits for answers that do not come: let them wait together
		f.end()
	}
	for _, f := range flows {
		o, err := f.out.Stop()
		r.must("ping", err)
		i, err := f.in.Stop()
		r.must("ping", err)
		out, in = append(out, o), append(in, i)
	}
	return out, in
}

// lossless ends flows and insists that nothing was lost.
func (r *rig) lossless(flows []*flow, during string) {
	r.Helper()
	out, in := r.stopAll(flows...)
	for k, f := range flows {
		o, i := lab.CountLost(out[k]), lab.CountLost(in[k])
		if o+i > 0 || len(out[k]) == 0 || len(in[k]) == 0 {
			r.Errorf("%s: %s lost %d of %d packets from the site and %d of %d to it, want none", during, f.site.Name,
				o, len(out[k]), i, len(in[k]))
		}
	}
}

// gaps ends flows and tells of each the longest time between two answers in a direction, the longer one of the two.
func (r *rig) gaps(flows ...*flow) []time.Duration {
	r.Helper()
	out, in := r.stopAll(flows...)
	var gaps []time.Duration
	for k := range flows {
		gaps = append(gaps, max(lab.LongestGap(out[k]), lab.LongestGap(in[k])))
	}
	return gaps
}

// flowing waits until both directions of a flow are answered.
func (r *rig) flowing(f *flow, d time.Duration) {
	r.Helper()
	sent := [2]uint64{f.out.Sent(), f.in.Sent()}
	got := [2]uint64{f.out.Received(), f.in.Received()}
	r.until(d, "wait for "+f.site.Name+" to flow", func() error {
		// Two more answers each: one may have been on its way.
		if o, i := f.out.Received(), f.in.Received(); o < got[0]+2 || i < got[1]+2 {
			return fmt.Errorf("%d answers to %d pings from the site, %d to %d to the site", o-got[0], f.out.Sent()-sent[0], i-got[1], f.in.Sent()-sent[1])
		}
		return nil
	})
}

// allFlow waits until all flows are answered: a gap is between two answers.
func (r *rig) allFlow(flows ...*flow) {
	r.Helper()
	for _, f := range flows {
		r.flowing(f, 30*time.Second)
	}
}

// ping pings both ways through a site's tunnel, in each family that it has inside, and insists on all answers.
func (r *rig) ping(s *lab.Site, count int) {
	r.Helper()
	ctx, cancel := context.WithTimeout(r.ctx, 20*time.Second)
	defer cancel()
	for _, inside := range s.Inside {
		target := r.target(inside)
		out, err := r.Ping(ctx, s.NS, inside, target, brief, count)
		r.must("ping", err)
		in, err := r.Ping(ctx, r.Target.Namespace, target, inside, brief, count)
		r.must("ping", err)
		if lab.CountLost(out)+lab.CountLost(in) > 0 || len(out) != count || len(in) != count {
			r.Errorf("%s, %s: %d of %d pings from the site lost, %d of %d to it", s.Name, inside, lab.CountLost(out), len(out),
				lab.CountLost(in), len(in))
		}
	}
}

// establish pings from a site until the target answers: traffic brings up what is not up yet.
func (r *rig) establish(s *lab.Site, d time.Duration) {
	r.Helper()
	f := r.flow(s)
	r.flowing(f, d)
	r.stop(f)
}

// stream sends bytes from a site through its tunnel and back: its packets are as large as the path lets them be.
func (r *rig) stream(s *lab.Site, size int) {
	r.Helper()
	ctx, cancel := context.WithTimeout(r.ctx, 20*time.Second)
	defer cancel()
	if _, err := r.TransferTCP(ctx, s.NS, s.Inside[0], r.target(s.Inside[0]), size); err != nil {
		r.Errorf("%s: %v", s.Name, err)
	}
}
