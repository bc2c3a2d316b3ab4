package director

import (
	"context"
	"fmt"
	"slices"
	"time"

	"tunneldirector/affinity"
	"tunneldirector/director/agent"
	"tunneldirector/director/api"
	"tunneldirector/director/observe"
)

// What agents see against what is wanted, for people.

// addAgents tells of the agents of real servers.
func (v view) addAgents(list []api.RealServerStatus) {
	if v.d.o.Agents == nil {
		return
	}
	for i := range list {
		a, ok := v.d.o.Agents.Agent(list[i].Name)
		if !ok || a.Terminator == "" {
			continue
		}
		st := &api.AgentStatus{Connected: a.Connected, Since: a.Since, Host: a.Host, Terminator: a.Terminator, Health: a.Status.Health.String(), Cause: a.Status.Cause,
			Established: a.Tunnels, Closed: v.d.closed(list[i].Name), LoadPercent: float64(a.Status.Load.Permille) / 10, Load: []api.LoadPart{}, Orders: api.OrderCount(a.Orders)}
		for _, p := range a.Status.Load.Parts {
			st.Load = append(st.Load, api.LoadPart{Name: p.Name, Percent: float64(p.Permille) / 10, Says: p.Says})
		}
		list[i].Agent = st
	}
}

// Orders are those of agents.
func (v view) Orders(realServer string) []api.Order {
	out := []api.Order{}
	if v.d.o.Agents == nil {
		return out
	}
	for _, e := range v.d.o.Agents.Errands(realServer) {
		o := api.Order{RealServer: e.RealServer, Kind: e.Kind.String(), Tunnel: e.Tunnel.ID, Peer: e.Tunnel.Peer, Endpoint: endpointWords(e.Tunnel.Endpoint),
			Outcome: e.Outcome.String(), Why: e.Why, Ordered: e.Ordered, Changed: e.Changed}
		if e.Outcome == 0 {
			o.Outcome = "unsent"
			if a, ok := v.d.o.Agents.Agent(e.RealServer); ok && a.Connected {
				o.Outcome = "sent"
			}
		}
		out = append(out, o)
	}
	return out
}

// Seen tells what agents see, in these states.
func (v view) Seen(ctx context.Context, states []string, f func(api.SeenTunnel) bool) error {
	if v.d.o.Agents == nil {
		return nil
	}
	t := v.d.Table()
	for _, a := range v.d.o.Agents.Agents() {
		var all []observe.Sighting // f may block: not under the Book's lock
		v.d.o.Agents.Each(a.RealServer, func(s observe.Sighting) bool { all = append(all, s); return true })
		for i, s := range all {
			if i%1000 == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
			if out := v.classify(t, s); slices.Contains(states, out.State) && !f(out) {
				return nil
			}
		}
	}
	if !slices.Contains(states, api.SeenNot) {
		return nil
	}
	t.Tunnels("", func(tun *affinity.Tunnel) bool {
		if tun.State != affinity.StateUp || !v.d.watches(t, tun) || len(v.d.sightings(t, tun, false)) > 0 {
			return ctx.Err() == nil
		}
		p, _ := t.PinOf(tun)
		out := api.SeenTunnel{State: api.SeenNot, Tunnel: tun.ID, Pinned: t.NameAt(t.Serving(p))}
		if len(tun.Endpoints) > 0 {
			out.Endpoint = endpointWords(tun.Endpoints[0])
		}
		return f(out)
	})
	return ctx.Err()
}

// classify says how a sighting fits the table. A tunnel that was established anew where it is pinned is right, though the
// real server before has not noticed yet.
func (v view) classify(t *affinity.Table, s observe.Sighting) api.SeenTunnel {
	out := api.SeenTunnel{State: api.SeenUnknown, At: s.RealServer, Peer: s.Peer, Endpoint: endpointWords(s.Endpoint), RxBytes: s.Rx, TxBytes: s.Tx}
	for _, p := range s.Subnets {
		out.Subnets = append(out.Subnets, p.String())
	}
	at := func(when time.Time) *time.Time {
		if when.IsZero() {
			return nil
		}
		return &when
	}
	out.Since, out.Last = at(s.Since), at(s.Last)
	rs, ok := t.RealServer(s.RealServer)
	if !ok {
		return out
	}
	x := &tx{d: v.d, t: t}
	for _, vip := range x.vipsFor(rs, s) {
		_, h, held := x.heldAt(rs, vip, s.Endpoint)
		if !held {
			continue
		}
		out.Tunnel, out.Pinned, out.State = h.Tunnel, t.NameAt(t.Serving(h.Pin)), api.SeenRight
		if out.Pinned == s.RealServer {
			return out
		}
		if tun, ok := t.Tunnel(h.Tunnel); ok {
			list := v.d.sightings(t, tun, false)
			if !slices.ContainsFunc(list, func(o observe.Sighting) bool { return o.RealServer == out.Pinned && !o.Since.Before(s.Since) }) {
				out.State = api.SeenWrong
			}
		}
		return out
	}
	return out
}

// silentFor is how long an agent may be away before people are told.
const silentFor = time.Minute

// agentAlarms are what agents say, or fail to say, that needs a person.
func agentAlarms(list []api.RealServerStatus, now time.Time) (out []string) {
	for _, r := range list {
		if r.Drain != nil && r.Drain.Stuck != "" {
			out = append(out, fmt.Sprintf("real server %s: %d tunnels cannot be drained: %s", r.Name, r.Drain.Left, r.Drain.Stuck))
		}
		switch a := r.Agent; {
		case a == nil:
		case !a.Connected && now.Sub(a.Since) >= silentFor:
			out = append(out, fmt.Sprintf("real server %s: its agent is silent since %s; it is checked as if it had none", r.Name, a.Since.Format(time.RFC3339)))
		case a.Connected && a.Health == agent.HealthHeadless.String():
			out = append(out, fmt.Sprintf("real server %s: the control process of its terminator is gone, established tunnels go on: %s", r.Name, a.Cause))
		case a.Connected && a.Health == agent.HealthDead.String() && r.State == "alive":
			out = append(out, fmt.Sprintf("real server %s: its agent says that the terminator is dead, and the probes do not: %s", r.Name, a.Cause))
		}
	}
	return out
}
