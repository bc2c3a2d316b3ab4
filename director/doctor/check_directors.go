package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"tunneldirector/director/api"
)

// settleFor is how long directors may differ while records travel.
const settleFor = 10 * time.Second

// directors looks at the others: are they there, do they hold the same.
func (e *exam) directors(ctx context.Context) error {
	if e.Cluster == nil {
		return nil
	}
	c, err := e.Cluster(ctx)
	if err != nil {
		return err
	}
	if c.Assigner == "" {
		e.find(api.Breaks, "", time.Time{}, "no director places groups: "+c.AssignerWhy, "new tunnels and those of dead real servers are not placed", "director cluster status on each")
	}
	for _, p := range c.Problems {
		e.find(api.Risks, "", time.Time{}, p, "directors may not agree", "director cluster status")
	}
	for _, m := range c.Members {
		if !m.Self {
			e.other(&m)
		}
	}
	return nil
}

func (e *exam) other(m *api.MemberStatus) {
	switch {
	case m.State == api.MemberDead:
		e.find(api.Breaks, m.Name, m.Since, "director "+m.Name+" is not heard on any path", "one director less to take addresses over", "on it: systemctl status director; gone for good: director cluster forget "+m.Name)
		return
	case m.State == api.MemberLeaving:
		e.find(api.Notes, m.Name, m.Since, "director "+m.Name+" is leaving", "its addresses are others'", "start it again when it is to take part")
		return
	case m.Hung:
		e.find(api.Breaks, m.Name, time.Time{}, "the loop of director "+m.Name+" does not turn", "it decides nothing, and its addresses go to others", "on it: journalctl -u director; systemctl restart director")
	case m.Sick:
		e.find(api.Breaks, m.Name, time.Time{}, "director "+m.Name+" does not reach real servers that others reach", "its addresses are others' until it does", "on it: director doctor; ip -br link; ip neigh")
	case !m.Ready:
		e.find(api.Risks, m.Name, time.Time{}, strings.TrimSuffix("director "+m.Name+" is not ready: "+m.Doing, ": "), "it holds no address", "director cluster status")
	}
	for _, p := range m.Paths {
		if p.HeardMS == nil || *p.HeardMS > 5000 {
			e.find(api.Risks, m.Name, time.Time{}, fmt.Sprintf("director %s is not heard on the path %s", m.Name, p.Address), "one path less: if the other fails, each takes the other for dead", "ping the address; is UDP to "+p.Address+" let through?")
		} else if p.Lost > 0.1 {
			e.find(api.Risks, m.Name, time.Time{}, fmt.Sprintf("of the heartbeats of director %s by %s %.0f %% are lost", m.Name, p.Address, p.Lost*100), "it may be taken for dead for nothing", "look for drops on that way: ip -s link; director doctor there (processors)")
		}
	}
	if d := m.Digest; d.Known && !d.Equal && d.Since != nil && e.now.Sub(*d.Since) > settleFor {
		e.find(api.Risks, m.Name, *d.Since, fmt.Sprintf("director %s and this one do not hold the same table", m.Name), "they may send a tunnel to different real servers", "director cluster status: it says what they are at; they compare again by themselves")
	}
	if m.Lag.Seconds > settleFor.Seconds() {
		e.find(api.Risks, m.Name, time.Time{}, fmt.Sprintf("director %s has not acknowledged %d records for %.0f s", m.Name, m.Lag.Records, m.Lag.Seconds), "it forwards by an older table", "on it: director doctor (disk, processors)")
	}
}

// addresses looks at who holds which address: each one director, and the right one.
func (e *exam) addresses(ctx context.Context) error {
	if e.Cluster == nil {
		return nil
	}
	c, err := e.Cluster(ctx)
	if err != nil {
		return err
	}
	for _, a := range c.Addresses {
		object, what := a.Address, fmt.Sprintf("%s %s of %s", a.Kind, a.Address, a.Of)
		if e.HoldAll && a.Kind == "vip" {
			if !a.Held {
				e.find(api.Breaks, object, time.Time{}, what+" is not held here, and every director is to hold it", "packets that routers send here are lost", "director status: is it ready?")
			}
			continue
		}
		switch {
		case len(a.Holders) == 0:
			e.find(api.Breaks, object, time.Time{}, what+" is held by nobody: "+a.Why, "no packet for it arrives", "director cluster status")
		case len(a.Holders) > 1:
			e.find(api.Breaks, object, time.Time{}, what+" is held by "+some(a.Holders)+" at once", "packets go to either, as ARP has it", "it ends within seconds; if it stays: do the directors hear each other? director cluster status on each")
		case !slices.Contains(a.Holders, a.Owner):
			e.find(api.Risks, object, time.Time{}, fmt.Sprintf("%s is held by %s, and is to be held by %s (%s)", what, a.Holders[0], a.Owner, a.Why), "it is about to move", "if it stays: director cluster status on "+a.Owner)
		}
		e.answeredFor(a)
	}
	return nil
}

// answeredFor looks whether the neighbour table has a real server's MAC for an address that directors hold.
func (e *exam) answeredFor(a api.AddressOwner) {
	if e.NextHops == nil || e.Table == nil || a.Held {
		return
	}
	macs, err := knownAt(a.Address)
	if err != nil {
		e.unchecked("who answers for %s: %v", a.Address, err)
		return
	}
	for _, rs := range e.Table().RealServers() {
		for _, h := range e.NextHops(rs.Name) {
			if h.Via == h.Address && slices.Contains(macs, firstOf(h.WireMAC, h.Sends())) {
				e.find(api.Breaks, rs.Name, time.Time{}, fmt.Sprintf("real server %s answers ARP or neighbour discovery for %s", rs.Name, a.Address), "tunnels come to it past the directors", "on it: realserver doctor; realserver apply")
			}
		}
	}
}

// versions looks whether directors and agents are of the same version.
func (e *exam) versions(ctx context.Context) error {
	if e.Agents != nil {
		for _, a := range e.Agents() {
			if a.Connected && a.Version != e.Version {
				e.find(api.Notes, a.RealServer, time.Time{}, fmt.Sprintf("the agent of real server %s is of version %s, this director of %s", a.RealServer, firstOf(a.Version, "unknown"), e.Version), "nothing during an upgrade; in the long run, what one can and the other cannot", "upgrade the older one")
			}
		}
	}
	if e.Cluster == nil || e.Versions == nil {
		return nil
	}
	list, err := e.Versions(ctx)
	for name, v := range list {
		if v != e.Version {
			e.find(api.Notes, name, time.Time{}, fmt.Sprintf("director %s is of version %s, this one of %s", name, firstOf(v, "unknown"), e.Version), "nothing during an upgrade; in the long run, what one can and the other cannot", "upgrade the older one")
		}
	}
	return err
}
