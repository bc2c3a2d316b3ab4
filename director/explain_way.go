package director

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"tunneldirector/affinity"
	"tunneldirector/director/agent"
	"tunneldirector/director/api"
	"tunneldirector/director/plane"
)

// way tells by which neighbour the packet leaves.
func (x *explainer) way(dst affinity.Index) {
	name := x.t.NameAt(dst)
	for _, h := range x.d.NextHops(name) {
		if a, err := netip.ParseAddr(h.Address); err != nil || a.Is6() != x.p.Dst.Is6() {
			continue
		}
		x.e.NextHops = append(x.e.NextHops, h)
		x.hop(&h)
	}
}

func (x *explainer) hop(h *api.NextHop) {
	via := h.Address
	if h.Via != "" && h.Via != h.Address {
		via = fmt.Sprintf("gateway %s (on the way to %s)", h.Via, h.Address)
	}
	switch {
	case h.PlaneUnknown:
		x.say("the data plane knows no MAC address of %s: packets are dropped", via)
	case h.Sends() == "" && h.Why != "":
		x.say("by which MAC address %s is reached is not known here: %s", via, h.Why)
	case h.Sends() == "":
		x.say("the kernel knows no MAC address of %s (%s)", via, orNone(h.State))
	default:
		x.say("it leaves by %s to MAC address %s of %s", orNone(firstOf(h.PlaneInterface, h.Interface)), h.Sends(), via)
	}
	if h.Static {
		x.say("somebody wrote that neighbour entry by hand (%s): it follows no change", h.State)
	}
	if h.WireMAC != "" && h.Sends() != "" && h.WireMAC != h.Sends() {
		x.e.Agrees = false
		x.say("WRONG MAC: on the wire %s answered with %s, so these packets go to somebody else; ip neigh replace %s lladdr %s dev %s nud reachable", via, h.WireMAC, h.Via, h.WireMAC, h.Interface)
	}
	if h.PlaneMAC != "" && h.MAC != "" && h.PlaneMAC != h.MAC {
		x.e.Agrees = false
		x.say("the kernel has another MAC address for it: %s (%s)", h.MAC, h.State)
	}
}

func firstOf(words ...string) string {
	for _, w := range words {
		if w != "" {
			return w
		}
	}
	return ""
}

// sees tells what agents say of the tunnel, and of the real server that gets the packet.
func (x *explainer) sees(dst affinity.Index) {
	if x.d.o.Agents == nil {
		return
	}
	told := []string{x.t.NameAt(dst), x.e.Primary}
	x.e.Agent = x.speaks(told[0])
	tun, ok := x.t.Tunnel(x.e.Tunnel)
	if !ok {
		return
	}
	list := x.d.sightings(x.t, tun, false)
	for _, s := range list {
		seen := view{x.d}.classify(x.t, s)
		x.e.Established = append(x.e.Established, seen)
		words := fmt.Sprintf("the agent of %s sees it established since %s, from %s", s.RealServer, s.Since.UTC().Format(time.RFC3339), endpointWords(s.Endpoint))
		if !s.Last.IsZero() {
			words += ", last packet " + s.Last.UTC().Format(time.RFC3339)
		}
		if seen.State == api.SeenWrong {
			words += ": the wrong place"
		}
		x.say("%s", words)
		if !slices.Contains(told, s.RealServer) {
			x.speaks(s.RealServer)
			told = append(told, s.RealServer)
		}
	}
	if len(list) == 0 {
		x.say("no agent sees tunnel %s established", x.e.Tunnel)
	}
}

// speaks tells what a real server's agent says of it, and whether the data path bears that out.
func (x *explainer) speaks(name string) (says string) {
	a, ok := x.d.o.Agents.Agent(name)
	if !ok || a.Terminator == "" {
		return ""
	}
	says = "silent since " + a.Since.UTC().Format(time.RFC3339)
	if a.Connected {
		says = strings.TrimSuffix(fmt.Sprintf("terminator %s is %s: %s", a.Terminator, a.Status.Health, a.Status.Cause), ": ")
	}
	x.say("agent of %s: %s", name, says)
	if !a.Connected {
		return says
	}
	life, _ := x.t.LifeOf(name)
	if life != nil && !life.Alive && a.Status.Health == agent.HealthWorking {
		x.say("yet its data path is dead: %s", life.Cause)
	}
	for _, f := range a.Status.Found {
		x.say("the agent finds on %s: %s; %s; mend: %s", name, f.What, f.Causes, f.Remedy)
	}
	return says
}

// died tells of the agent of a primary whose packets go to its backup, or nowhere.
func (x *explainer) died() {
	if x.e.Primary == "" || x.e.Primary == x.e.RealServer || x.d.o.Agents == nil {
		return
	}
	x.speaks(x.e.Primary)
}

// loops tells of packets that real servers sent back.
func (x *explainer) loops() {
	if x.dec.Reason == plane.DropLoop {
		x.say("real server %s has just sent this packet: sending it there again would be a loop. Its routes send back what it should keep: ip route get %s on it", x.t.NameAt(x.p.From), x.p.Dst)
		return
	}
	c, ok := x.d.o.Plane.(plane.Counter)
	if !ok || x.dec.Reason != plane.None {
		return
	}
	stats, err := c.Stats()
	if err != nil {
		return // the counters are told elsewhere
	}
	n := stats.Reasons[plane.DropLoop]
	if x.dec.Side == plane.TunnelSide && stats.ServiceDrop != nil {
		n = stats.ServiceDrop[x.dec.Service][plane.DropLoop]
	}
	if n > 0 {
		x.say("%d packets were dropped because the real server that they are for had sent them back (loop); director doctor tells whether more come", n)
	}
}

// readFor is how long the kernel's entries for one packet may take to be found.
const readFor = 2 * time.Second

// compare tells what the kernel holds for the packet where that is not what the plane has told it.
func (x *explainer) compare(ctx context.Context) {
	c, ok := x.d.o.Plane.(plane.Comparer)
	if !ok || x.dec.Side != plane.TunnelSide {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, readFor)
	defer cancel()
	err := c.Compare(ctx, x.p, func(d plane.Difference) {
		x.e.Agrees = false
		x.say("STALE: the kernel has for %s: %s; it should have: %s", d.Key, d.Have, d.Want)
	})
	if err != nil {
		x.say("whether the kernel holds this is not known: %v; director audit takes the time it needs", err)
	}
}
