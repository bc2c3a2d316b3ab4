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

// up tells whether a tunnel is up.
func (d *Director) up(t *affinity.Table, tun *affinity.Tunnel) bool {
	return d.evidence(t, tun).Up
}

// evidence is what is known of a tunnel's being up: packets in the last 180 s, else the NMS's word.
func (d *Director) evidence(t *affinity.Table, tun *affinity.Tunnel) api.Evidence {
	seen := d.lastSeen(t, tun)
	switch {
	case !seen.IsZero() && d.o.Now().Sub(seen) <= upWindow:
		return api.Evidence{Up: true, By: "packets", LastSeen: seen}
	case tun.State == affinity.StateUp:
		return api.Evidence{Up: true, By: "nms", LastSeen: seen}
	}
	return api.Evidence{LastSeen: seen}
}

// lastSeen is the last packet through any of a tunnel's endpoints.
func (d *Director) lastSeen(t *affinity.Table, tun *affinity.Tunnel) (last time.Time) {
	o, ok := d.o.Plane.(plane.Observer)
	s, known := t.Service(tun.Service)
	if !ok || !known {
		return last
	}
	for _, ep := range tun.Endpoints {
		for _, vip := range s.VIPs {
			if vip.Is4() != ep.Addr().Is4() {
				continue
			}
			if seen, err := o.Seen(plane.EndpointKey{VIP: vip, Addr: ep.Addr(), Port: ep.Port()}); err == nil && seen.After(last) {
				last = seen
			}
		}
	}
	return last
}

// View answers what is read and is not in the table.
func (d *Director) View() api.View { return view{d} }

type view struct{ d *Director }

// Programmed tells whether the data plane holds what the table says.
func (v view) Programmed() bool { return v.d.health.Load().planeErr == "" }

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
