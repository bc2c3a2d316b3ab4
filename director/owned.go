package director

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"time"

	"tunneldirector/cluster"
	"tunneldirector/director/api"
)

// Held is what a Host is to have as local addresses, and what it closes.
type Held struct {
	VIPs     []netip.Addr  // all that there are: closed by the filter, wherever they are held
	Own      []netip.Addr  // of these: to be local here
	Gateways []netip.Addr  // to be local here
	Lifetime time.Duration // after which the kernel takes an address away that nobody renews; 0: never
	Silent   bool          // announce nothing: routers know the way
	// Again are those of them of which neighbours may have been told meanwhile that they are elsewhere.
	Again []netip.Addr
	// Undecided: it is not known yet what is to be held. What is, from before, stays until its lifetime is over.
	Undecided bool
	// Covers are the covering prefixes by tenant name.
	Covers map[string][]netip.Prefix
}

// lifetime is how long an address stays with a director that hangs. It is in whole seconds, as the kernel counts.
const lifetime = 4 * time.Second

// lastLifetime is how long an address stays with a director that hangs, dies or stops where no other one could hold it: the kernel
// forwards, and the daemon may be back soon.
const lastLifetime = time.Minute

// handedOver is how long an address is held after its new owner is known, where that one cannot say that it holds it.
const handedOver = 2 * time.Second

// resumeAfter is how long a director that stood still listens before it decides what to hold.
const resumeAfter = 500 * time.Millisecond

// leave lets the others take over. Where there are none the addresses stay for as long as a restart takes.
func (d *Director) leave(ctx context.Context) {
	last := !relieved(d.view())
	d.joint.leaving = !last
	d.lookAtPeers(ctx)
	d.note(func(h *health) { h.last = last })
}

// owned is what this director is to hold, by the view that it has.
func (d *Director) owned() Held {
	h := Held{VIPs: d.work.VIPs(), Covers: map[string][]netip.Prefix{}}
	var gateways []netip.Addr
	for _, n := range d.work.Tenants() {
		h.Covers[n.Name] = n.Covers
		gateways = append(gateways, n.Gateways...)
	}
	slices.SortFunc(gateways, netip.Addr.Compare)
	gateways = slices.Compact(gateways)
	if d.lone() {
		h.Own, h.Gateways = h.VIPs, gateways
		return h
	}
	v := d.view()
	v.Beat = d.beat() // what is known here this moment
	h.Lifetime, h.Silent = lifetime, d.o.HoldAll
	if !relieved(v) {
		h.Lifetime = lastLifetime
	}
	if h.Undecided = d.joint.ready.IsZero() || d.o.Now().Before(d.joint.resumes); h.Undecided {
		return h
	}
	for _, a := range h.VIPs {
		if d.o.HoldAll && d.fit(v) || !d.o.HoldAll && d.owns(v, a) {
			h.Own = append(h.Own, a)
		}
	}
	for _, a := range gateways {
		if d.owns(v, a) {
			h.Gateways = append(h.Gateways, a)
		}
	}
	return h
}

// relieved tells whether a live director could take over something of what this one is for.
func relieved(v cluster.View) bool {
	return slices.ContainsFunc(v.Peers, func(p cluster.Peer) bool {
		side := p.Member.Role == v.Self.Role || p.Member.Role == cluster.RoleBoth || v.Self.Role == cluster.RoleBoth
		return side && p.Fit()
	})
}

// fit tells whether this director may hold addresses at all.
func (d *Director) fit(v cluster.View) bool {
	return !d.joint.ready.IsZero() && !d.joint.leaving && !(d.joint.sick && d.othersFit(v))
}

// othersFit tells whether a live peer could hold what this director gives up.
func (d *Director) othersFit(v cluster.View) bool {
	return slices.ContainsFunc(v.Peers, func(p cluster.Peer) bool {
		return p.Fit() && !p.Beat.Sick
	})
}

// owns tells whether this director is to hold an address: as its owner, or until its new owner says that it holds it.
func (d *Director) owns(v cluster.View, a netip.Addr) bool {
	side, prefer, known := d.addressOf(a)
	if d.joint.ready.IsZero() || !known {
		return false
	}
	owner, _ := v.Owner(a, side, prefer, d.o.PreemptAfter)
	if owner == d.o.Name {
		delete(d.joint.disowned, a)
		return true
	}
	if _, held := d.joint.holds[a.String()]; !held {
		return false
	}
	p, ok := v.Peer(owner)
	if ok && p.Beat.Many { // it has more than it can say: it holds it by the time that this one has known it for the owner for a while
		if _, known := d.joint.disowned[a]; !known {
			d.joint.disowned[a] = d.o.Now()
		}
		return d.o.Now().Sub(d.joint.disowned[a]) < handedOver
	}
	return !ok || !p.Beat.HoldsAddr(a)
}

// holdNow sees to VIPs, gateways, filter and covers, and notes where that fails; it is called again every second.
func (d *Director) holdNow(ctx context.Context) {
	h, said := d.owned(), ""
	var rivals map[netip.Addr]string
	if !d.lone() {
		v := d.view()
		v.Beat = d.beat()
		rivals = d.rivals(v, h)
		h.Again = d.disputed(v, h, rivals)
	}
	switch err := d.o.Host.Hold(ctx, h); {
	case err != nil && ctx.Err() != nil:
		return // told to stop meanwhile, which is no fault: what is held stays as it is
	case err != nil:
		said = err.Error()
	}
	if was := d.health.Load().holdErr; said != was {
		if said != "" {
			d.o.Log.Error("hold the VIPs", "error", said)
			d.tell(api.Event{Kind: "address", Why: "cannot be held as they should be: " + said})
		}
		d.note(func(h *health) { h.holdErr = said })
	}
	now, holds := d.o.Now(), map[string]time.Time{}
	for _, a := range slices.Concat(h.Own, h.Gateways) {
		if since, held := d.joint.holds[a.String()]; held {
			holds[a.String()] = since
		} else if said == "" {
			holds[a.String()] = now
		}
	}
	d.tellHeld(h, holds)
	if d.joint.holds = holds; said == "" { // else nobody was told
		d.joint.rivals = rivals
	}
	maps.DeleteFunc(d.joint.disowned, func(a netip.Addr, _ time.Time) bool { _, held := holds[a.String()]; return !held })
	d.holding.Store(&holds)
}

// beginTurn notes that the loop turns, before anything is said, held or written. When it has not for long, what it knows of the others is old,
// its addresses may be gone, and with others: it hears them first, and waits as one that has come back does.
func (d *Director) beginTurn() {
	now := time.Now()
	gap := now.Sub(time.Unix(0, d.turned.Swap(now.UnixNano())))
	if d.lone() || gap < lifetime/2 || d.joint.ready.IsZero() {
		return
	}
	d.o.Log.Warn("the loop stood still", "seconds", gap.Seconds())
	d.joint.mine, d.assigns = time.Time{}, false // another one may place by now
	d.joint.ready, d.joint.resumes = d.o.Now(), d.o.Now().Add(resumeAfter)
	holds := map[string]time.Time{}
	d.joint.holds = holds
	d.holding.Store(&holds)
}

// heldFor tells whether this director has held all of these addresses for a time, and nobody else is known to: then it has seen
// every packet to them.
func (d *Director) heldFor(vips []netip.Addr, long time.Duration) bool {
	if d.lone() {
		return true
	}
	holding := *d.holding.Load()
	for _, a := range vips {
		since, held := holding[a.String()]
		if !held || d.o.Now().Sub(since) < long || d.o.HoldAll {
			return false
		}
	}
	return true
}
