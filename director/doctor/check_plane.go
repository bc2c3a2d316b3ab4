package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"tunneldirector/director/api"
)

// dataPlane looks at what the plane says of itself.
func (e *exam) dataPlane(context.Context) error {
	s, err := e.status()
	if err != nil {
		return err
	}
	if !s.Plane.InSync {
		e.find(api.Breaks, "", time.Time{}, "the kernel does not hold what the table says: "+s.Plane.LastError, "new and moved tunnels are not forwarded as they should be", "the director tries again by itself; journalctl -u director says what it fails at")
	}
	for name, u := range s.Plane.Tables {
		if u.Max > 0 && u.Entries*10 >= u.Max*9 {
			e.find(api.Risks, name, time.Time{}, fmt.Sprintf("the kernel's table %s is nearly full: %d of %d entries", name, u.Entries, u.Max), "further tunnels are refused", "raise limits in director.yaml, and restart the director: forwarding goes on")
		}
	}
	if e.PlaneWarnings == nil {
		return errors.New("the data plane tells of no warnings")
	}
	for _, w := range e.PlaneWarnings() {
		e.find(api.Risks, "", time.Time{}, w, "packets may not arrive", "as it says")
	}
	return nil
}

const (
	auditFor  = 5 * time.Second
	auditTold = 20 // differences
)

// kernel compares the kernel's tables with the director's, for a while.
func (e *exam) kernel(ctx context.Context) error {
	if e.Audit == nil {
		kind := "this one"
		if s, err := e.status(); err == nil {
			kind = s.Plane.Kind
		}
		return fmt.Errorf("plane %s cannot be compared entry by entry: what it holds is read only by looking packets up (director trace)", kind)
	}
	limited, cancel := context.WithTimeout(ctx, auditFor)
	defer cancel()
	told := 0
	counts, err := e.Audit(limited, func(d api.Difference) {
		if told++; told <= auditTold {
			e.find(api.Breaks, d.Key, time.Time{}, fmt.Sprintf("the kernel has for %s: %s; the table says %s", d.Key, d.Have, d.Want), "these packets go elsewhere than they should, or nowhere",
				"the director sends entries again by itself within minutes; if it stays so: director repin, or restart the director (forwarding goes on)")
		}
	})
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case limited.Err() != nil:
		return fmt.Errorf("the table is too large to be compared within %v; director audit takes the time it needs", auditFor)
	case err != nil:
		return err
	}
	if n := counts.Differences(); n > auditTold {
		e.find(api.Breaks, "", time.Time{}, fmt.Sprintf("in all %d entries differ", n), "their packets go elsewhere than they should", "director audit")
	}
	return nil
}

// A cause of drops says what a reason means for an operator.
type cause struct {
	reason, severity string
	causes, mend     string
}

var causes = []cause{
	{"loop", api.Breaks, "a real server sends packets back that it should keep: they are dropped here, else they would go round until their hops are used up",
		"director trace --from ... --to ... --came-from RS names the real server; on it: ip route get the destination, and remove the route that leads back to the director"},
	{"no-neighbour", api.Breaks, "packets to a real server whose MAC address is not known are dropped", "director trace names it; ip neigh show on this director, and the cable or switch port of the real server"},
	{"both-dead", api.Breaks, "primary and backup of these tunnels are dead", "director realserver list; start one of them, or add one"},
	{"too-big", api.Risks, "packets that do not fit the path to the real server are dropped", "raise the MTU towards the real servers by 20 (IPv4) or 40 (IPv6), or lower that of the tunnels"},
	{"no-role", api.Risks, "packets to a VIP come in by an interface that has not the role tunnel", "correct interfaces in director.yaml, or the routes of the router before it"},
	{"unplaced", api.Breaks, "packets of tunnels that have no real server are dropped", "director tunnel list --placed no"},
	{"no-tunnel-in-cover", api.Notes, "packets to addresses behind no tunnel are dropped", "announce the tunnel that has the subnet, or make the covering prefix smaller"},
	{"bad-source", api.Risks, "packets come with a source that nobody outside can have: an own address or a VIP", "find who sends them: tcpdump on the interfaces of role tunnel"},
	{"hop-limit", api.Risks, "packets come with their hops used up: on their way here they may go in circles", "traceroute from a site to the VIP"},
	{"unknown-endpoint", api.Notes, "packets of endpoints that no tunnel has are dropped", "director events; announce the tunnel, or let the service learn"},
	{"contested", api.Breaks, "packets for which two tunnels claim the endpoint are dropped", "director tunnel list --json | jq 'select(.contested)'"},
}

// drops looks at which packets are dropped now, and which were.
func (e *exam) drops(context.Context) error {
	s, err := e.status()
	if err != nil {
		return err
	}
	if e.before.err != nil {
		return e.before.err
	}
	for reason, n := range s.Plane.Dropped {
		i := slices.IndexFunc(causes, func(c cause) bool { return c.reason == reason })
		if i < 0 || n == 0 {
			continue
		}
		c, more := causes[i], n-min(n, e.before.status.Plane.Dropped[reason])
		switch {
		case more > 0:
			e.find(c.severity, reason, time.Time{}, fmt.Sprintf("%d packets were dropped in the last second (%s), %d in all", more, reason, n), c.causes, c.mend+"; the packets themselves: director blackbox list")
		case reason == "loop":
			e.find(api.Notes, reason, time.Time{}, fmt.Sprintf("%d packets were dropped once (%s), none in the last second", n, reason), c.causes, c.mend)
		}
	}
	return nil
}
