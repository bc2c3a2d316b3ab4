package sim

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
)

// An oracle sends packets of some tunnels into the data planes of two directors, one for each direction, and sums up how long
// they go to different real servers.
type oracle struct {
	w *world
	r *rand.Rand

	last    time.Time
	trouble time.Time // when directors last could not talk, or a disk kept one from following
	apart   map[string]time.Duration
	inside  map[string]time.Duration // of these, while directors could not talk
	streak  map[string]time.Duration // without an end, outside
	since   map[string]time.Duration // outside, since a change that directors may see at different times
	worst   time.Duration
	asked   int
}

const (
	// together is how long after a partition directors have had to find each other again.
	together = 5 * time.Second
	// bound is how long both directions of a tunnel may go different ways (design rule 1).
	bound = 2 * time.Second
	// sampled is how many tunnels are asked about at once.
	sampled = 6
)

func newOracle(w *world) *oracle {
	return &oracle{w: w, r: rand.New(rand.NewPCG(w.seed, 13)), apart: map[string]time.Duration{}, inside: map[string]time.Duration{}, streak: map[string]time.Duration{}, since: map[string]time.Duration{}}
}

// look sends the packets of this moment. What it finds holds since the last look.
func (o *oracle) look() {
	now := time.Now()
	passed := now.Sub(o.last)
	o.last = now
	var able []*node
	for _, n := range o.w.running() {
		if n.proc.peers.said().Ready {
			able = append(able, n)
		}
	}
	if o.w.parted() {
		o.trouble = now
	}
	if len(able) == 0 {
		return
	}
	inside := now.Sub(o.trouble) < together
	for i := range sampled {
		in, out := able[o.r.IntN(len(able))], able[o.r.IntN(len(able))]
		t := in.proc.d.Table()
		tun, ok := t.Tunnel(tunnelID(i))
		if !ok || len(t.Contested(tun)) > 0 {
			delete(o.streak, tunnelID(i))
			continue
		}
		o.asked++
		a, b := in.kernel.incoming(tun), out.kernel.outgoing(tun)
		switch {
		case a == b || a == "" || b == "":
			delete(o.streak, tun.ID)
			continue
		case inside:
			o.inside[tun.ID] += passed
			delete(o.streak, tun.ID)
			continue
		}
		o.apart[tun.ID] += passed
		o.streak[tun.ID] += passed
		o.since[tun.ID] += passed
		o.worst = max(o.worst, o.streak[tun.ID])
		if o.since[tun.ID] > bound {
			o.w.fail("tunnel %s goes to %s by %s and returns by %s through %s: for %v at a stretch, and for %v since anything happened to real servers or directors, though all directors could talk",
				tun.ID, a, in.name, b, out.name, o.streak[tun.ID], o.since[tun.ID])
			o.since[tun.ID] = 0
		}
	}
}

// change begins to count anew: something has happened that directors may see at different times.
func (o *oracle) change() { clear(o.since) }

// incoming is the real server that a packet of a tunnel is sent to; "" if it is dropped.
func (k *kernel) incoming(tun *affinity.Tunnel) string {
	p := plane.Packet{Interface: "out", Src: tun.Endpoints[0].Addr(), SrcPort: 4711, Dst: vips[0], Proto: 50, Hops: 64}
	if tun.Service == "wg" {
		p.Dst, p.Proto, p.DstPort = vips[2], 17, 51820
	}
	return k.decide(p)
}

// outgoing is the real server that a packet to a tunnel's subnet is sent to; "" if it is dropped.
func (k *kernel) outgoing(tun *affinity.Tunnel) string {
	return k.decide(plane.Packet{Interface: "in", Src: netip.MustParseAddr("192.0.2.200"), Dst: tun.Subnets[0].Addr(), Proto: 17, Hops: 64})
}

func (k *kernel) decide(p plane.Packet) string {
	d, err := k.Lookup(p)
	if err != nil {
		return err.Error()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.names[d.RealServer]
}

func tunnelID(i int) string { return fmt.Sprintf("site-%02d", i) }

// parted tells whether anything keeps the running directors from talking, or one from following what it is told.
func (w *world) parted() bool {
	run := w.running()
	for _, a := range run {
		for _, b := range run {
			if a == b {
				continue
			}
			for p := range paths {
				w.network.mu.Lock()
				l := w.network.link(way{a.name, b.name, p})
				bad := l.cut || l.loss > 0.05
				w.network.mu.Unlock()
				if bad {
					return true
				}
			}
		}
		a.disk.mu.Lock()
		bad := a.disk.full || a.disk.slow > 100*time.Millisecond
		a.disk.mu.Unlock()
		if bad {
			return true
		}
	}
	return false
}
