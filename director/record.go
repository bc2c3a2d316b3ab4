package director

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"tunneldirector/affinity"
	"tunneldirector/cluster"
	"tunneldirector/director/api"
)

// A Journal keeps what happens. Record never waits, and may be called from any goroutine.
type Journal interface {
	Record(events []api.Event)
}

// tell records what happened: changes of the table, and what is seen and done beside it.
func (d *Director) tell(events ...api.Event) {
	if d.o.Journal == nil || len(events) == 0 {
		return
	}
	if events[0].Time.IsZero() {
		events[0].Time = d.o.Now()
	}
	d.o.Journal.Record(events)
}

// tellRefused records what was asked for and is not done.
func (d *Director) tellRefused(batch []*request, answers [][]affinity.Result) {
	if d.o.Journal == nil {
		return
	}
	now, list := d.o.Now(), []api.Event(nil)
	for i, r := range batch {
		for j, a := range answers[i] {
			if why, refused := a.Err.(*affinity.Refusal); refused && !r.dry {
				list = append(list, api.Event{Time: now, Kind: "refused", Object: why.Object, Why: faultWords(why), By: r.ops[j].Asks().Name})
			}
		}
	}
	d.tell(list...)
}

// faultWords are a refusal without its object.
func faultWords(r *affinity.Refusal) string {
	if len(r.Faults) == 0 {
		return r.Error()
	}
	return r.Faults[0].Error()
}

// tellPeersLives records which of the others came, went, and are about to.
func (d *Director) tellPeersLives(v cluster.View) {
	now := map[string]string{}
	for _, p := range v.Peers {
		now[p.Member.Name] = peerWords(&p)
	}
	for name := range d.joint.living {
		if _, known := now[name]; !known {
			now[name] = "forgotten"
		}
	}
	for _, name := range slices.Sorted(maps.Keys(now)) {
		was, known := d.joint.living[name]
		if was == now[name] || !known && now[name] == peerDead { // known of, and never heard
			continue
		}
		d.tell(api.Event{Kind: "peer", Object: name, From: was, To: now[name], Why: "by its heartbeats"})
		if now[name] == "forgotten" {
			delete(now, name)
			delete(d.joint.cuts, name)
		}
	}
	d.joint.living = now
}

const peerDead = "dead"

func peerWords(p *cluster.Peer) string {
	switch {
	case !p.Alive:
		return peerDead
	case p.Beat.Hung:
		return "hung"
	case p.Beat.Leaving:
		return "leaving"
	case p.Beat.Sick:
		return "sick"
	case !p.Beat.Ready:
		return "alive, not ready"
	}
	return "alive"
}

func (d *Director) tellLeaving() {
	why := "it stops, and no other director could take over: its addresses stay for a while"
	if d.joint.leaving {
		why = "it leaves, and the others take over"
	}
	d.tell(api.Event{Kind: "director", Object: d.o.Name, Why: why})
}

func sickWords(sick bool) string {
	if sick {
		return "sick: other directors reach real servers that this one does not, so its addresses are theirs"
	}
	return "not sick any more"
}

// tellHeld records which addresses this director has taken and given up.
func (d *Director) tellHeld(h Held, holds map[string]time.Time) {
	vips := map[string]bool{}
	for _, a := range h.VIPs {
		vips[a.String()] = true
	}
	word := func(address string) string {
		if vips[address] {
			return "VIP"
		}
		return "gateway"
	}
	var list []api.Event
	now := d.o.Now()
	for _, a := range slices.Sorted(maps.Keys(holds)) {
		if _, had := d.joint.holds[a]; !had {
			list = append(list, api.Event{Time: now, Kind: "address", Object: a, To: d.o.Name, Why: word(a) + " taken: " + d.whyHeld(a, true)})
		}
	}
	for _, a := range slices.Sorted(maps.Keys(d.joint.holds)) {
		if _, has := holds[a]; !has {
			list = append(list, api.Event{Time: now, Kind: "address", Object: a, From: d.o.Name, Why: word(a) + " given up: " + d.whyHeld(a, false)})
		}
	}
	d.tell(list...)
}

// whyHeld says why an address is held here or not.
func (d *Director) whyHeld(address string, taken bool) string {
	a, err := netip.ParseAddr(address)
	switch {
	case d.lone() && taken:
		return "this director is alone"
	case d.lone() || err != nil:
		return "it is in no record any more"
	case d.joint.leaving:
		return "this director leaves"
	case d.joint.sick && !taken:
		return "this director is sick"
	case d.o.HoldAll:
		return "every director that is fit holds it"
	}
	side, prefer, known := d.addressOf(a)
	if !known {
		return "it is in no record any more"
	}
	owner, why := d.view().Owner(a, side, prefer, d.o.PreemptAfter)
	if owner == "" {
		return "nobody owns it"
	}
	return fmt.Sprintf("its owner is %s: %s", owner, why)
}

// addressOf is what an address is in the records.
func (d *Director) addressOf(a netip.Addr) (side cluster.Side, prefer []string, known bool) {
	gateway, prefer, known := d.work.Address(a)
	if gateway {
		return cluster.Gateway, prefer, known
	}
	return cluster.VIP, prefer, known
}

// noteClock keeps how far the clock of a director alone is off, as it is now.
func (d *Director) noteClock() {
	if !d.lone() {
		return
	}
	d.watchWall()
	jumped := time.Duration(0)
	if d.clock.Logical {
		jumped = d.watch.by
	}
	d.note(func(h *health) { h.jumped = jumped })
}
