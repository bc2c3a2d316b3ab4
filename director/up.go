package director

import (
	"context"
	"time"

	"tunneldirector/affinity"
	"tunneldirector/director/api"
	"tunneldirector/director/plane"
)

// upWindow is how long after its last packet a tunnel counts as up (design rule 10).
const upWindow = 180 * time.Second

// mayBeUp tells whether a tunnel must be taken for up by whoever would move it. The NMS's not saying up is not enough: it
// is idle only where the packets say so.
func (d *Director) mayBeUp(t *affinity.Table, tun *affinity.Tunnel) bool {
	how, _ := d.howUp(t, tun)
	return how != ""
}

// howUp says in words why a tunnel must not be moved, and what to do about it; "" if it may be.
func (d *Director) howUp(t *affinity.Table, tun *affinity.Tunnel) (how, remedy string) {
	switch e := d.evidence(t, tun); {
	case e.Up:
		return "is up", "wait until it is down, or repin it first"
	case e.By == api.ByNobody && !d.lone():
		return "may be up (no agent tells, and its packets may go through another director)", "repin it first"
	case e.By == api.ByNobody:
		return "may be up (plane " + d.o.PlaneKind + " sees no packets)", "repin it first"
	}
	return "", ""
}

// evidence is what is known of a tunnel's being up: the agents' word, else packets in the last 180 s, else the NMS's word.
func (d *Director) evidence(t *affinity.Table, tun *affinity.Tunnel) api.Evidence {
	for _, s := range d.sightings(t, tun, false) {
		if d.fresh(s) {
			return api.Evidence{Up: true, By: api.ByAgent, LastSeen: s.Last, At: s.RealServer}
		}
	}
	seen, watched := d.lastSeen(t, tun)
	switch {
	case !seen.IsZero() && d.o.Now().Sub(seen) <= upWindow:
		return api.Evidence{Up: true, By: api.ByPackets, LastSeen: seen}
	case tun.State == affinity.StateUp:
		return api.Evidence{Up: true, By: api.ByNMS, LastSeen: seen}
	case !watched && !d.watches(t, tun):
		return api.Evidence{By: api.ByNobody, LastSeen: seen}
	}
	return api.Evidence{LastSeen: seen}
}

// lastSeen is the last packet through any of a tunnel's endpoints. It is not watched if the plane cannot tell of one of them.
func (d *Director) lastSeen(t *affinity.Table, tun *affinity.Tunnel) (last time.Time, watched bool) {
	s, known := t.Service(tun.Service)
	if !known || len(tun.Claimed()) == 0 {
		return last, true // no packet can come
	}
	o, sees := d.o.Plane.(plane.Observer)
	if !sees {
		return last, false
	}
	h := d.health.Load()
	watched = !h.another && !d.o.Now().Before(h.watching) && d.heldFor(s.VIPs, upWindow)
	for _, ep := range tun.Claimed() {
		for _, vip := range s.VIPs {
			if vip.Is4() != ep.Addr().Is4() {
				continue
			}
			seen, err := o.Seen(plane.EndpointKey{VIP: vip, Addr: ep.Addr(), Port: ep.Port()})
			if err != nil {
				watched = false
			} else if seen.After(last) {
				last = seen
			}
		}
	}
	return last, watched
}

// View answers what is read and is not in the table.
func (d *Director) View() api.View { return view{d} }

type view struct{ d *Director }

// Programmed tells whether the data plane holds what the table says.
func (v view) Programmed() bool { return v.d.health.Load().planeErr == "" }

// Replicated waits until others have what was written here.
func (v view) Replicated(ctx context.Context, revision uint64, n int) []string {
	if v.d.lone() {
		return nil
	}
	return v.d.o.Peers.Await(ctx, revision, n)
}

// Up tells which tunnels are up.
func (v view) Up(_ context.Context, tunnels []*affinity.Tunnel) ([]api.Evidence, error) {
	t := v.d.Table()
	out := make([]api.Evidence, len(tunnels))
	for i, tun := range tunnels {
		out[i] = v.d.evidence(t, tun)
	}
	return out, nil
}

// Events returns those after a sequence number.
func (v view) Events(ctx context.Context, since uint64) ([]api.Event, error) {
	return v.d.events.after(ctx, since)
}
