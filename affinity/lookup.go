package affinity

import (
	"fmt"
	"net/netip"
	"slices"
)

// A Holding is what a key leads to.
type Holding struct {
	Tunnel string  // that holds the claim
	Group  GroupID // whose pin holds for it
	Pin    Pin     // Primary 0: unplaced
	// PortsOnly: the key is a whole address, nobody claims it, but address:port claims exist.
	PortsOnly bool
}

// AtEndpoint finds who holds an endpoint; an exact match, not what a packet would find.
func (t *Table) AtEndpoint(k EndpointKey) (Holding, bool) {
	num, ok := t.vips[k.VIP]
	if !ok {
		return Holding{}, false
	}
	key := claim{space: num, addr: bitsOf(k.Addr), low: k.Port}
	if c, ok := t.endpoints.holder(key); ok {
		return t.holding(c.id), true
	}
	if k.Port != 0 {
		return Holding{}, false
	}
	return Holding{PortsOnly: true}, t.anyPort(key)
}

// anyPort tells whether address:port claims exist at an address.
func (t *Table) anyPort(key claim) (found bool) {
	t.endpoints.all.Ascend(key, func(c claim) bool {
		found = c.space == key.space && c.addr == key.addr
		return false
	})
	return found
}

// AtSubnet finds who holds a subnet; an exact match.
func (t *Table) AtSubnet(k SubnetKey) (Holding, bool) {
	c, ok := t.subnets.holder(claim{space: k.Tenant, addr: bitsOf(k.Prefix.Addr()), low: lengthOf(k.Prefix)})
	if !ok {
		return Holding{}, false
	}
	return t.holding(c.id), true
}

func (t *Table) holding(id string) Holding {
	g := t.placedBy(id, t.groupID(id))
	p, _ := t.Pin(g)
	return Holding{Tunnel: id, Group: g, Pin: p}
}

// LongestMatch finds the longest subnet of a tenant that contains an address.
func (t *Table) LongestMatch(tenant uint16, a netip.Addr) (SubnetKey, Holding, bool) {
	for bits := a.BitLen(); bits >= 0; bits-- {
		p, _ := a.Prefix(bits)
		k := SubnetKey{tenant, p}
		if h, ok := t.AtSubnet(k); ok {
			return k, h, true
		}
	}
	return SubnetKey{}, Holding{}, false
}

// EachEndpoint calls f for every endpoint key that leads anywhere, whole addresses that have port claims only among
// them (tunnel ""), until it returns false.
func (t *Table) EachEndpoint(f func(k EndpointKey, tunnel string, primary, backup Index) bool) {
	vips := make(map[uint16]netip.Addr, len(t.vips))
	for a, n := range t.vips {
		vips[n] = a
	}
	var last claim
	t.endpoints.all.Scan(func(c claim) bool {
		k := EndpointKey{vips[c.space], c.addr.netip(), c.low}
		newAddr := c.space != last.space || c.addr != last.addr || last.id == ""
		if newAddr && c.low != 0 && !f(EndpointKey{VIP: k.VIP, Addr: k.Addr}, "", 0, 0) {
			return false
		}
		isHolder := newAddr || c.low != last.low
		last = c
		if !isHolder {
			return true
		}
		p, _ := t.pins.Get(t.placedBy(c.id, t.groupID(c.id)))
		return f(k, c.id, p.primary, p.backup)
	})
}

// EachSubnet calls f for every subnet key, until it returns false.
func (t *Table) EachSubnet(f func(k SubnetKey, tunnel string, primary, backup Index) bool) {
	var last claim
	t.subnets.all.Scan(func(c claim) bool {
		same := last.id != "" && c.key() == last.key()
		last = c
		if same {
			return true
		}
		p, _ := t.pins.Get(t.placedBy(c.id, t.groupID(c.id)))
		return f(SubnetKey{c.space, prefixOf(c)}, c.id, p.primary, p.backup)
	})
}

// ByEndpoint calls f for each tunnel that claims an address, at any VIP and port, until it returns false.
func (t *Table) ByEndpoint(addr netip.Addr, f func(*Tunnel) bool) {
	seen := map[string]bool{}
	for _, num := range t.vips {
		more := true
		key := claim{space: num, addr: bitsOf(addr)}
		t.endpoints.all.Ascend(key, func(c claim) bool {
			if c.space != num || c.addr != key.addr {
				return false
			}
			if !seen[c.id] {
				seen[c.id] = true
				tun, _ := t.Tunnel(c.id)
				more = f(tun)
			}
			return more
		})
		if !more {
			return
		}
	}
}

// BySubnet calls f for each tunnel one of whose subnets contains an address, the longest first, until it returns false;
// tenant nil: of any tenant.
func (t *Table) BySubnet(tenant *string, addr netip.Addr, f func(*Tunnel) bool) {
	for bits := addr.BitLen(); bits >= 0; bits-- {
		p, _ := addr.Prefix(bits)
		more := true
		key := claim{addr: bitsOf(p.Addr()), low: lengthOf(p)}
		t.subnets.all.Ascend(key, func(c claim) bool {
			if c.addr != key.addr || c.low != key.low {
				return false
			}
			tun, _ := t.Tunnel(c.id)
			if tenant == nil || tun.Tenant == *tenant {
				more = f(tun)
			}
			return more
		})
		if !more {
			return
		}
	}
}

// Shares tells whether a tunnel claims a key that another tunnel claims too.
func (t *Table) Shares(tun *Tunnel) (shares bool) {
	t.eachEndpointClaim(tun.ID, tun, func(c claim) { shares = shares || t.endpoints.several(c.key()) })
	t.eachSubnetClaim(tun.ID, tun, func(c claim) { shares = shares || t.subnets.several(c.key()) })
	return shares
}

// EachSplit calls f for each tunnel that is pinned apart from its group, until it returns false.
func (t *Table) EachSplit(f func(id string) bool) {
	t.groupOf.Scan(func(id string, g GroupID) bool { return t.placedBy(id, g) == g || f(id) })
}

// Unpinned calls f for each group that has a tunnel without any pin, not even an unplaced one, until it returns false.
func (t *Table) Unpinned(f func(GroupID) bool) {
	t.tunnels.Scan(func(id, _ string) bool {
		g := t.placedBy(id, t.groupID(id))
		_, ok := t.pins.Get(g)
		return ok || f(g)
	})
}

// Contested names the claims of a tunnel that another group holds: `endpoint 203.0.113.5 at 192.0.2.10, held by site-7`.
func (t *Table) Contested(tun *Tunnel) []string {
	if t.endpoints.crowded.Len()+t.subnets.crowded.Len() == 0 {
		return nil
	}
	var out []string
	t.lost(tun, func(words string, _ claim) { out = append(out, words) })
	return out
}

// lost calls f for each claim of tun whose holder is of another group.
func (t *Table) lost(tun *Tunnel, f func(words string, holder claim)) {
	g := tun.GroupID()
	t.eachEndpointClaim(tun.ID, tun, func(c claim) {
		if h, ok := t.endpoints.holder(c.key()); ok && h.id != tun.ID && t.groupID(h.id) != g {
			f(fmt.Sprintf("endpoint %s, held by %s", endpointWords(c), h.id), h)
		}
	})
	t.eachSubnetClaim(tun.ID, tun, func(c claim) {
		if h, ok := t.subnets.holder(c.key()); ok && h.id != tun.ID && t.groupID(h.id) != g {
			f(fmt.Sprintf("subnet %s, held by %s", prefixOf(c), h.id), h)
		}
	})
}

func endpointWords(c claim) string {
	a := c.addr.netip()
	if c.low == 0 {
		return a.String()
	}
	return netip.AddrPortFrom(a, c.low).String()
}

// Overlapping calls f with each tunnel of another tenant that has a subnet overlapping p, until it returns false. A
// tunnel may come more than once.
func (t *Table) Overlapping(tenant uint16, p netip.Prefix, f func(id string) bool) {
	more := true
	visit := func(c claim) {
		if c.space != tenant {
			more = f(c.id)
		}
	}
	for bits := 0; bits < p.Bits() && more; bits++ { // those that contain p
		up, _ := p.Addr().Prefix(bits)
		key := claim{addr: bitsOf(up.Addr()), low: lengthOf(up)}
		t.subnets.all.Ascend(key, func(c claim) bool {
			if c.addr != key.addr || c.low != key.low {
				return false
			}
			visit(c)
			return more
		})
	}
	if !more {
		return
	}
	t.subnets.all.Ascend(claim{addr: bitsOf(p.Addr()), low: lengthOf(p)}, func(c claim) bool { // p and those inside
		if !p.Contains(c.addr.netip()) {
			return false
		}
		visit(c)
		return more
	})
}

// Apart calls f for each group that one of these tunnels wants to be apart from, or that wants it of them.
func (t *Table) Apart(tunnels []*Tunnel, f func(GroupID)) {
	wanting := func(name string) {
		t.apart.Ascend(member{group: GroupID(name)}, func(m member) bool {
			if string(m.group) != name {
				return false
			}
			f(t.placedBy(m.id, t.groupID(m.id)))
			return true
		})
	}
	for _, tun := range tunnels {
		for _, name := range tun.SeparateFrom {
			f(GroupID("@" + name))
			f(t.placedBy(name, t.groupID(name)))
		}
		wanting(tun.ID)
		if tun.Group != "" {
			wanting(tun.Group)
		}
	}
}

// Tenanted tells whether there are subnets of more than one tenant, so that overlaps are possible at all.
func (t *Table) Tenanted() bool { return len(t.tenants) > 1 }

// Deletions counts the tombstones of an owner's tunnels that were written since a stamp by complete sets.
func (t *Table) Deletions(owner string, since Stamp) int {
	n := 0
	t.tombs.Scan(func(_, packed string) bool {
		if tun := t.unpack(packed); tun.Owner == owner && tun.Header.Stamp >= since {
			n++
		}
		return true
	})
	return n
}

// VIPs are all virtual IPs, sorted.
func (t *Table) VIPs() []netip.Addr {
	var out []netip.Addr
	for _, s := range t.services {
		out = append(out, s.VIPs...)
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

// Crowded tells whether any key is wanted by more than one tunnel.
func (t *Table) Crowded() bool { return t.endpoints.crowded.Len()+t.subnets.crowded.Len() > 0 }

// ContestedCount is how many keys are wanted by tunnels of more than one group.
func (t *Table) ContestedCount() int { return t.contested(t.endpoints) + t.contested(t.subnets) }

func (t *Table) contested(c claims) int {
	n := 0
	c.crowded.Scan(func(key claim) bool {
		holder, _ := c.holder(key)
		rival := false
		c.each(key, func(x claim) bool {
			rival = t.groupID(x.id) != t.groupID(holder.id)
			return !rival
		})
		if rival {
			n++
		}
		return true
	})
	return n
}

// SplitCount is how many tunnels are pinned apart from their group.
func (t *Table) SplitCount() int {
	n := 0
	t.EachSplit(func(string) bool { n++; return true })
	return n
}
