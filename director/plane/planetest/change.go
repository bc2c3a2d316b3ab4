package planetest

import (
	"net/netip"
	"slices"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
)

// A step is one call of a plane, or a restart, and the packets that are compared afterwards.
type step struct {
	kind    kind
	update  plane.Update // of apply; of replace: the whole state
	index   affinity.Index
	alive   bool
	packets []plane.Packet
}

type kind uint8

const (
	apply kind = iota
	replace
	setAlive
	restart
)

// history is a list of steps, made without any plane: what the planes do has no influence.
func history(opt *Options, seed uint64) []step {
	w := newWorld(opt, seed)
	w.own = []netip.Addr{numbered(false, "198.51.100.0", "", 1), netip.MustParseAddr("100.64.0.0")}
	if !opt.Caps.NoIPv6 {
		w.own = append(w.own, netip.MustParseAddr("2001:db8:b::"))
	}
	for range 4 {
		w.bear()
	}
	for range 3 {
		w.changeService()
	}
	w.changeTenant()
	for range 6 {
		w.setEntry()
	}
	steps := []step{w.whole()}
	for len(steps) < opt.Steps {
		steps = append(steps, w.change())
		for range opt.Packets { // near what is now
			last := &steps[len(steps)-1]
			last.packets = append(last.packets, w.packet())
		}
	}
	return steps
}

// change changes the world, and says so in one call.

func (w *world) change() step {
	switch n := w.rng.IntN(40); {
	case n < 12:
		return w.entriesSet()
	case n < 17:
		return w.entriesDeleted()
	case n < 26 && len(w.servers) > 0:
		i := w.rng.IntN(len(w.servers))
		w.servers[i].Alive = !w.servers[i].Alive
		return step{kind: setAlive, index: w.servers[i].Index, alive: w.servers[i].Alive}
	case n < 35:
		return w.configured()
	case n < 37:
		return step{kind: apply, update: plane.Update{Entries: slices.Clone(w.entries)}} // once more
	case n < 39 || w.opt.Caps.NoRestart:
		for range 5 { // behind the plane's back
			w.change()
		}
		return w.whole()
	}
	s := step{kind: restart}
	if w.opt.Caps.RestartForgets {
		s.update = w.whole().update
	}
	return s
}

func (w *world) whole() step {
	c := w.config()
	s := step{kind: replace, update: plane.Update{Config: &c, Entries: slices.Clone(w.entries)}}
	w.rng.Shuffle(len(s.update.Entries), func(i, j int) {
		s.update.Entries[i], s.update.Entries[j] = s.update.Entries[j], s.update.Entries[i]
	})
	return s
}

func (w *world) entriesSet() step {
	var u plane.Update
	for range 1 + w.rng.IntN(6) {
		e := w.setEntry()
		u.Entries = append(u.Entries, e)
		if w.chance(20) { // set and deleted at once: deleted
			w.cut(e)
			e.Delete = true
			u.Entries = slices.Insert(u.Entries, w.rng.IntN(len(u.Entries)), e)
			break
		}
	}
	return step{kind: apply, update: u}
}

func (w *world) entriesDeleted() step {
	var u plane.Update
	for range 1 + w.rng.IntN(4) {
		e := w.newEntry()
		if len(w.entries) > 0 && !w.chance(8) { // else one that is not there, perhaps
			e = pick(w, w.entries)
		}
		w.cut(e)
		u.Entries = append(u.Entries, plane.Entry{Endpoint: e.Endpoint, Subnet: e.Subnet, Delete: true})
	}
	return step{kind: apply, update: u}
}

// setEntry sets a new entry, or another target for one that is there.
func (w *world) setEntry() plane.Entry {
	if len(w.entries) > 0 && w.chance(3) {
		e := pick(w, w.entries)
		e.Target = w.target()
		w.put(e)
		return e
	}
	e := w.newEntry()
	if e.Endpoint.VIP.IsValid() && e.Endpoint.Port == 0 && w.chance(5) {
		e.Target = plane.Target{Drop: plane.DropNoPort}
	}
	w.put(e)
	return e
}

func (w *world) newEntry() plane.Entry {
	var vips []netip.Addr
	for _, s := range w.services {
		vips = append(vips, s.VIPs...)
	}
	if len(vips) == 0 || w.chance(2) {
		tenant := uint16(0)
		if len(w.tenants) > 0 {
			tenant = pick(w, w.tenants).Num
		}
		return plane.Entry{Subnet: plane.SubnetKey{Tenant: tenant, Prefix: w.prefix()}, Target: w.target()}
	}
	vip := pick(w, vips)
	k := plane.EndpointKey{VIP: vip, Addr: w.endpoint(vip.Is6())}
	if w.chance(3) || w.opt.Caps.PortsOnly {
		for k.Port = w.port(); k.Port == 500 && w.opt.Caps.NoPort500; {
			k.Port = w.port()
		}
	}
	return plane.Entry{Endpoint: k, Target: w.target()}
}

// configured changes the configuration, and deletes in the same update the entries whose VIP or tenant is gone.
func (w *world) configured() step {
	switch w.rng.IntN(6) {
	case 0, 1:
		w.changeService()
	case 2:
		w.changeTenant()
	case 3:
		w.bear()
	case 4:
		w.changeServer()
	case 5:
		w.changeOwn()
	}
	c := w.config()
	u := plane.Update{Config: &c}
	for _, e := range slices.Clone(w.entries) {
		if !w.homeless(e) {
			continue
		}
		w.cut(e)
		u.Entries = append(u.Entries, plane.Entry{Endpoint: e.Endpoint, Subnet: e.Subnet, Delete: true})
	}
	return step{kind: apply, update: u}
}

// homeless tells whether e's VIP or tenant is gone.
func (w *world) homeless(e plane.Entry) bool {
	if e.Endpoint.VIP.IsValid() {
		return !slices.ContainsFunc(w.services, func(s plane.Service) bool { return slices.Contains(s.VIPs, e.Endpoint.VIP) })
	}
	return e.Subnet.Tenant != 0 && !slices.ContainsFunc(w.tenants, func(t plane.Tenant) bool { return t.Num == e.Subnet.Tenant })
}
