package director

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"tunneldirector/affinity"
	"tunneldirector/director/agent"
	"tunneldirector/director/observe"
)

// What agents on real servers say, and what the loop makes of it.

// headlessGrace is how long a terminator whose control process is gone may take to restart before its tunnels are moved.
const headlessGrace = 30 * time.Second

// sightings are where a tunnel is established, the newest first; with gone, also where it was.
func (d *Director) sightings(t *affinity.Table, tun *affinity.Tunnel, gone bool) []observe.Sighting {
	s, ok := t.Service(tun.Service)
	if d.o.Agents == nil || !ok {
		return nil
	}
	return slices.DeleteFunc(d.o.Agents.Sightings(s.VIPs, tun.Claimed(), gone), func(x observe.Sighting) bool { return !owns(t, s, tun, x) })
}

// owns tells whether a sighting at one of a tunnel's endpoints is that tunnel's, and not one of a neighbour behind the same
// address, who holds the port there, or the address.
func owns(t *affinity.Table, svc *affinity.Service, tun *affinity.Tunnel, x observe.Sighting) bool {
	vips := svc.VIPs
	if x.Local.IsValid() {
		vips = []netip.Addr{x.Local}
	}
	for _, vip := range vips {
		for _, port := range []uint16{x.Endpoint.Port(), 0} {
			h, held := t.AtEndpoint(affinity.EndpointKey{VIP: vip, Addr: x.Endpoint.Addr(), Port: port})
			switch {
			case !held || h.PortsOnly:
				continue
			case tun.Group == "":
				return h.Tunnel == tun.ID
			}
			other, ok := t.Tunnel(h.Tunnel)
			return ok && other.GroupID() == tun.GroupID() && mayBe(tun, x.Subnets)
		}
	}
	return false
}

// mayBe tells tunnels of a group that share an address apart, by the subnets, as far as these are known.
func mayBe(tun *affinity.Tunnel, seen []netip.Prefix) bool {
	return len(seen) == 0 || len(tun.Subnets) == 0 || slices.ContainsFunc(seen, func(p netip.Prefix) bool { return slices.Contains(tun.Subnets, p) })
}

// fresh tells whether a sighting is evidence now: its agent confirmed it within upWindow.
func (d *Director) fresh(s observe.Sighting) bool { return d.o.Now().Sub(s.Heard) <= upWindow }

// watches tells whether the agent of the real server that serves a tunnel would tell of it.
func (d *Director) watches(t *affinity.Table, tun *affinity.Tunnel) bool {
	p, ok := t.PinOf(tun)
	if d.o.Agents == nil || !ok {
		return false
	}
	i := t.Serving(p)
	a, ok := d.o.Agents.Agent(t.NameAt(i))
	return ok && i != 0 && a.Connected && a.Whole && a.Status.Health == agent.HealthWorking
}

// closed says why a real server gets no new pins, by its probes or its agent's word; "" if it does.
func (d *Director) closed(name string) string {
	if p, ok := d.o.Prober.(Doubter); ok {
		if why := p.Doubt(name); why != "" {
			return why
		}
	}
	if d.o.Agents == nil {
		return ""
	}
	a, ok := d.o.Agents.Agent(name)
	switch {
	case !ok || !a.Connected:
		return ""
	case a.Status.Health == agent.HealthHeadless:
		return "its terminator's control process is gone: " + a.Status.Cause
	case a.Status.Closed:
		return "its terminator takes no new tunnels"
	case a.Status.Load.Full:
		return fmt.Sprintf("it is full: %.0f %% of its limit", float64(a.Status.Load.Permille)/10)
	}
	return ""
}

// hearAgents acts on what agents have said since the last time, at most once a tick.
func (d *Director) hearAgents(ctx context.Context) {
	d.watchTargets()
	for _, a := range d.o.Agents.Agents() {
		if a.Connected && a.Status.Health == agent.HealthHeadless {
			if _, known := d.headless[a.RealServer]; !known {
				d.headless[a.RealServer] = d.o.Now()
				d.o.Log.Error("a terminator's control process is gone while its tunnels go on", "real_server", a.RealServer, "cause", a.Status.Cause, "moved_after_s", headlessGrace.Seconds())
			}
		} else if a.Connected && a.Status.Health != agent.HealthUnknown || d.o.Now().Sub(a.Heard) > upWindow {
			delete(d.headless, a.RealServer)
		}
		if _, exists := d.work.RealServer(a.RealServer); !exists && !a.Connected {
			d.o.Agents.Forget(a.RealServer)
			delete(d.headless, a.RealServer)
		}
	}
	d.reopen()
	if d.assigns {
		d.learn(ctx)
	}
	d.releaseDue()
}

// reopen looks which real servers get new pins again: the unplaced may find room there.
func (d *Director) reopen() {
	shut := map[string]bool{}
	for _, rs := range d.work.RealServers() {
		why := d.closed(rs.Name)
		if d.o.Agents != nil {
			d.o.Agents.SetClosed(rs.Name, rs.Admin == affinity.Drained)
			d.o.Agents.SetVerdict(d.verdict(rs, why))
		}
		switch was := d.shut[rs.Name]; {
		case why != "":
			shut[rs.Name] = true
			if !was {
				d.o.Log.Warn("a real server gets no new tunnels", "real_server", rs.Name, "why", why)
			}
		case was:
			d.sweep.roomAppeared = true
			d.o.Log.Info("a real server gets new tunnels again", "real_server", rs.Name)
		}
	}
	d.shut = shut
}

// verdict is what this director makes of a real server, which gets no new pins for a reason, as its agent shows it.
func (d *Director) verdict(rs *affinity.RealServer, shut string) agent.Verdict {
	v := agent.Verdict{RealServer: rs.Name, State: "new", Since: agent.Time(rs.Header.Stamp.Time()), Shut: agent.Text(shut)}
	if life, ok := d.work.LifeOf(rs.Name); ok {
		v.State, v.Since, v.Why = "dead", agent.Time(life.Since.Time()), agent.Text(life.Cause)
		if life.Alive {
			v.State = "alive"
		}
	} else if d.o.Prober != nil {
		why, _ := d.o.Prober.Probed(rs.Name)
		v.Why = agent.Text(why)
	}
	if why, ok := d.health.Load().held[rs.Name]; ok {
		v.Why = agent.Text(why)
	}
	if rs.Admin == affinity.Drained {
		v.Drained = agent.Time(rs.Header.Stamp.Time())
		if rs.Drain != nil {
			v.Drained = agent.Time(rs.Drain.Started.Time())
		}
	}
	return v
}

// mayAgent tells why the agent of a host may not speak for a real server. It may be called from any goroutine.
func (d *Director) mayAgent(host string, s agent.Server) error {
	rs, ok := d.Table().RealServer(s.Name)
	switch {
	case !ok:
		return fmt.Errorf("there is no real server %q here; add it first: director realserver add", s.Name)
	case rs.Host != host:
		return fmt.Errorf("real server %s is of host %s, and the certificate is of host %s", s.Name, rs.Host, host)
	}
	return nil
}

// agentDiffers says how a host is prepared for something else than the table wants.
func (d *Director) agentDiffers(s agent.Server) []string {
	t := d.Table()
	rs, ok := t.RealServer(s.Name)
	if !ok {
		return nil
	}
	var out []string
	for _, name := range rs.Services {
		svc, ok := t.Service(name)
		if !ok {
			continue
		}
		if s.Method != "" && s.Method != svc.Method.String() {
			out = append(out, fmt.Sprintf("real server %s is prepared for method %s, and service %s forwards by %s", s.Name, s.Method, name, svc.Method))
		}
		for _, vip := range svc.VIPs {
			if len(s.VIPs) > 0 && !slices.Contains(s.VIPs, vip) {
				out = append(out, fmt.Sprintf("real server %s does not hold VIP %v of service %s", s.Name, vip, name))
			}
		}
	}
	return out
}

// AgentOptions are how the director's Book serves agents; the caller adds who they are.
func (d *Director) AgentOptions() observe.Options {
	return observe.Options{Name: d.o.Name, Log: d.o.Log, May: d.mayAgent, Differs: d.agentDiffers, VIPs: d.agentVIPs}
}

// agentVIPs are where a real server's tunnels may be told to end; nil: anywhere, as under masq. It may be called from any goroutine.
func (d *Director) agentVIPs(realServer string) []netip.Addr {
	t := d.Table()
	rs, ok := t.RealServer(realServer)
	if !ok {
		return nil
	}
	for _, name := range rs.Services {
		if s, ok := t.Service(name); ok && s.Method == affinity.Masq {
			return nil
		}
	}
	return vipsOf(t, rs)
}

// vipsOf are the VIPs that a real server terminates.
func vipsOf(t *affinity.Table, rs *affinity.RealServer) (out []netip.Addr) {
	for _, name := range rs.Services {
		if s, ok := t.Service(name); ok {
			out = append(out, s.VIPs...)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

// OrderFault has the agent of a real server make a fault for a drill, or undo it, and returns when that is done. The agent undoes it by
// itself after its time. A fault that cuts the host off, so that its agent is not heard, is undone by that alone: undoing it waits for the
// agent until ctx ends, but no longer than 15 s.
//
// The error is an affinity.Refusal if there is no such real server, or if its agent refuses; else it says what helps. It may be called
// from any goroutine.
func (d *Director) OrderFault(ctx context.Context, realServer string, o agent.FaultOrder) error {
	object, what := "real server "+realServer, cmp.Or(o.Kind, o.ID)
	rs, ok := d.Table().RealServer(realServer)
	switch {
	case !ok:
		return affinity.Refuse(affinity.NotFound, object, affinity.Fault{Problem: "does not exist", Remedy: "director realserver list names those that do"})
	case d.o.Agents == nil:
		return fmt.Errorf("fault %s at %s: this director hears no agents: agents.listen is not in its node's file", what, object)
	}
	step, err := d.o.Agents.Fault(ctx, realServer, o)
	a, _ := d.o.Agents.Agent(realServer)
	switch {
	case errors.Is(err, observe.ErrSilent):
		return fmt.Errorf("fault %s at %s: %w; on host %s: realserver status", what, object, err, rs.Host)
	case errors.Is(err, observe.ErrNoAnswer) && !o.Undo:
		return fmt.Errorf("fault %s at %s: refused: %w, it is older than drills or hangs; upgrade the agent on host %s, which is of version %s", what, object, err, rs.Host, a.Version)
	case err != nil:
		return fmt.Errorf("fault %s at %s: %w; it ends by itself after its time, or on host %s: realserver undo-faults", what, object, err, rs.Host)
	case step.Outcome != agent.OutcomeDone:
		return affinity.Refuse(affinity.Forbidden, object, affinity.Fault{Field: "fault", Value: what, Problem: step.Why, Remedy: "on host " + rs.Host + ": realserver status"})
	}
	return nil
}
