package cluster

import (
	"context"
	"fmt"
	"time"

	"tunneldirector/integration/lab"
)

// pause is the time between two packets of a direction of a tunnel.
const pause = 20 * time.Millisecond

// rekey is after how long a site makes a new handshake by itself (WireGuard's REKEY_AFTER_TIME), with something to spare.
const rekey = 115 * time.Second

// traffic is packets both ways through sites' tunnels, and what was before them.
type traffic struct {
	r      *rig
	began  time.Time
	cancel context.CancelFunc
	pings  map[*lab.Site][2]*lab.Pinger // from the site, from the target
	at     map[*lab.Site]*lab.RealServer
	counts map[*lab.Site]map[*lab.RealServer]lab.Counts
	shaken map[*lab.Site]time.Time // the last handshake
}

// An outcome is what became of traffic.
type outcome struct {
	act         string
	sent, lost  int
	site        map[*lab.Site]int // lost of each
	gap         time.Duration     // the longest time in which all was lost in a direction of a tunnel
	moved, anew int               // tunnels seen at another real server than before; established once more
}

func (o outcome) String() string {
	return fmt.Sprintf("MEASURED %s: %d packets lost of %d, all lost for %.2f s, %d tunnels moved, %d established anew",
		o.act, o.lost, o.sent, o.gap.Seconds(), o.moved, o.anew)
}

// flow starts packets both ways: of the inner IPv4 for one half of the sites, of IPv6 for the other.
func (r *rig) flow(sites ...*lab.Site) *traffic {
	r.Helper()
	ctx, cancel := context.WithCancel(r.ctx)
	f := &traffic{r: r, began: time.Now(), cancel: cancel, pings: map[*lab.Site][2]*lab.Pinger{}, at: map[*lab.Site]*lab.RealServer{},
		counts: map[*lab.Site]map[*lab.RealServer]lab.Counts{}, shaken: map[*lab.Site]time.Time{}}
	for _, s := range sites {
		f.at[s] = r.placed(s)
		p, err := f.at[s].Peer(s)
		r.must("ask for the last handshake", err)
		f.shaken[s] = p.LastHandshake
		f.counts[s] = map[*lab.RealServer]lab.Counts{}
		for _, rs := range r.RealServers {
			f.counts[s][rs] = rs.Counts(s)
		}
		family := (s.Index - 1) / len(r.VIPs) % len(s.Inside)
		inside, target := s.Inside[family], r.Target.Inner.Addrs[family]
		out, err := r.StartPing(ctx, s.NS, inside, target, pause, 0)
		r.must("ping", err)
		in, err := r.StartPing(ctx, r.Target.Namespace, target, inside, pause, 0)
		r.must("ping", err)
		f.pings[s] = [2]*lab.Pinger{out, in}
	}
	r.rest(300 * time.Millisecond)
	return f
}

// end stops it, and says what it came to.
func (f *traffic) end(act string) outcome {
	f.r.Helper()
	f.cancel()
	o := outcome{act: act, site: map[*lab.Site]int{}}
	for s, both := range f.pings {
		for _, p := range both {
			echoes, err := p.Stop()
			f.r.must("ping", err)
			n := lab.CountLost(echoes)
			if n == len(echoes) {
				f.r.Errorf("%s: %s: of %d packets none got through", act, s.Name, n)
			}
			o.sent, o.lost = o.sent+len(echoes), o.lost+n
			o.site[s] += n
			o.gap = max(o.gap, lab.Outage(echoes, pause))
		}
		o.moved, o.anew = o.moved+f.moved(s), o.anew+f.anew(s)
	}
	f.r.Log(o)
	return o
}

// moved is 1 if packets of a site came to another real server than the one where it was.
func (f *traffic) moved(s *lab.Site) int {
	for _, rs := range f.r.RealServers {
		if c := rs.Counts(s).Sub(f.counts[s][rs]); rs != f.at[s] && c.OuterIn+c.InnerOut > 0 {
			return 1
		}
	}
	return 0
}

// anew is 1 if a site made a handshake that was not due.
func (f *traffic) anew(s *lab.Site) int {
	n := uint64(0)
	for _, rs := range f.r.RealServers {
		n += rs.Counts(s).Sub(f.counts[s][rs]).Handshakes
	}
	if due := time.Since(f.shaken[s]) / rekey; n > uint64(max(due, 0)) {
		return 1
	}
	return 0
}

// still demands that nothing was moved or established anew.
func (o outcome) still(r *rig) {
	r.Helper()
	if o.moved+o.anew > 0 {
		r.Errorf("%s: %d tunnels were moved, %d established anew: want none", o.act, o.moved, o.anew)
	}
}

// lossless demands that also, and that nothing was ever cut off for as long as a director's death takes to be noticed. A machine that
// is short of processor time loses packets here and there, which is not what is looked for: the figures tell.
func (o outcome) lossless(r *rig) {
	r.Helper()
	o.still(r)
	if o.gap > time.Second || o.lost*5 > o.sent {
		r.Errorf("%s: %d packets of %d were lost, all for %v: %v", o.act, o.lost, o.sent, o.gap, o.bySite())
	}
}

func (o outcome) bySite() map[string]int {
	m := map[string]int{}
	for s, n := range o.site {
		m[s.Name] = n
	}
	return m
}
