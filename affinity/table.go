package affinity

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/tidwall/btree"
)

// A Change is a record as it is to be stored. Value nil: delete it outright.
type Change struct {
	Kind      Kind
	Key       string
	Value     []byte
	Tombstone bool // the record says that something was deleted; it need not live forever

	Now Header // of Value
	Was Header // of the version before; Format 0: there was none
}

// A Table is the wanted state. The zero value is not usable: call NewTable.
type Table struct {
	storeID  string
	revision uint64

	services map[string]*Service    // these maps are small: cloned before each write
	tenants  map[string]*Tenant     //
	servers  map[string]*RealServer //
	lives    map[Index]*Life        // of every incarnation that is current or that a pin may name
	current  map[string]Index       // real server -> its current incarnation
	vips     map[netip.Addr]uint16  // numbers within this process only

	tunnels   btree.Map[string, string]  // id -> encoded Tunnel
	tombs     btree.Map[string, string]  // id -> encoded Tunnel that was deleted
	pins      btree.Map[GroupID, pinned] //
	unpinned  btree.Map[GroupID, Header] // tombstones of pins
	lifted    map[GroupID]Header         // pins that are off for a moment
	gone      map[Index]*Life            // tombstones of lives
	buried    map[recordKey]tomb         // tombstones of services, tenants and real servers
	homeless  int                        // tunnels whose service or tenant is not known (yet, any more)
	groupOf   btree.Map[string, GroupID] // tunnels in explicit groups only
	members   *btree.BTreeG[member]      // of explicit groups
	endpoints claims                     // space = VIP
	subnets   claims                     // space = tenant; ordered by prefix first
	ported    int                        // endpoint claims with a port
	loads     loads
	freeze    Freeze

	apart *btree.BTreeG[member] // {the name that a tunnel wants to be apart from, its id}

	log   []Change
	dirty Dirty
	hot   *Tunnel // put last: it is about to be read again

	cloning *sync.Mutex // held while t is cloned: copying a tree writes to its bookkeeping
}

// Dirty names what must be looked at again by whoever programs a data plane.
type Dirty struct {
	Endpoints []EndpointKey
	Subnets   []SubnetKey
	Config    bool // services, tenants, real servers or lives
}

// A recordKey names a record.
type recordKey struct {
	kind Kind
	key  string
}

type tomb struct {
	header Header
	packed []byte
}

type member struct {
	group GroupID
	id    string
}

func memberLess(a, b member) bool {
	if a.group != b.group {
		return a.group < b.group
	}
	return a.id < b.id
}

// NewTable is an empty table of a store.
func NewTable(storeID string, revision uint64) *Table {
	return &Table{
		storeID: storeID, revision: revision,
		services: map[string]*Service{}, tenants: map[string]*Tenant{}, servers: map[string]*RealServer{},
		gone: map[Index]*Life{}, buried: map[recordKey]tomb{},
		lives: map[Index]*Life{}, current: map[string]Index{}, vips: map[netip.Addr]uint16{},
		members:   btree.NewBTreeGOptions(memberLess, btree.Options{NoLocks: true, Degree: 32}),
		apart:     btree.NewBTreeGOptions(memberLess, btree.Options{NoLocks: true, Degree: 32}),
		cloning:   new(sync.Mutex),
		endpoints: newClaims(claimLess), subnets: newClaims(subnetLess),
	}
}

// Clone is an independent copy, in constant time, without the log of changes. Any goroutine may clone a snapshot.
func (t *Table) Clone() *Table {
	t.cloning.Lock()
	defer t.cloning.Unlock()
	c := *t
	c.services, c.tenants, c.servers = maps.Clone(t.services), maps.Clone(t.tenants), maps.Clone(t.servers)
	c.lives, c.current, c.vips = maps.Clone(t.lives), maps.Clone(t.current), maps.Clone(t.vips)
	c.gone, c.buried, c.unpinned = maps.Clone(t.gone), maps.Clone(t.buried), *t.unpinned.Copy()
	c.tunnels, c.tombs, c.pins, c.groupOf = *t.tunnels.Copy(), *t.tombs.Copy(), *t.pins.Copy(), *t.groupOf.Copy()
	c.members, c.endpoints, c.subnets = t.members.Copy(), t.endpoints.clone(), t.subnets.clone()
	c.apart = t.apart.Copy()
	c.loads = t.loads.clone()
	c.cloning = new(sync.Mutex)
	c.log, c.dirty, c.lifted = nil, Dirty{}, nil // a map of its own: the table may be read elsewhere
	return &c
}

// Save is a clone with the log of changes, to go back to.
func (t *Table) Save() *Table {
	c := t.Clone()
	c.log, c.dirty, c.hot = slices.Clip(t.log), t.dirty.clip(), t.hot
	return c
}

func (d Dirty) clip() Dirty {
	return Dirty{slices.Clip(d.Endpoints), slices.Clip(d.Subnets), d.Config}
}

// Keys is how many keys a data plane holds for the tunnels, at most: endpoints, with the marks of addresses that have only
// port claims, and subnets.
func (t *Table) Keys() (endpoints, subnets int) {
	return t.endpoints.all.Len() + t.ported, t.subnets.all.Len()
}

// Take hands over what was changed since the table was made or last asked: records to store and keys to program.
func (t *Table) Take() ([]Change, Dirty) {
	log, dirty := t.log, t.dirty
	t.log, t.dirty = nil, Dirty{}
	return log, dirty
}

// StoreID names the store that the revision counts in.
func (t *Table) StoreID() string { return t.storeID }

// Revision counts the commits of the store.
func (t *Table) Revision() uint64 { return t.revision }

// SetRevision is for the owner, before it publishes.
func (t *Table) SetRevision(r uint64) { t.revision = r }

// record notes a version of a record, before it takes the place of the one before.
func (t *Table) record(k Kind, key string, h Header, value []byte, err error) {
	if err != nil { // a record of our own types always encodes
		panic(fmt.Sprintf("encode %s %s: %v", k, key, err))
	}
	h.Format = Format
	was, _ := t.Version(k, key)
	t.log = append(t.log, Change{Kind: k, Key: key, Value: value, Tombstone: h.Deleted, Now: h, Was: was})
}

// Len is the number of tunnels.
func (t *Table) Len() int { return t.tunnels.Len() }

// Tunnel finds a tunnel. Nobody may write to what it points at.
func (t *Table) Tunnel(id string) (*Tunnel, bool) {
	if t.hot != nil && t.hot.ID == id {
		return t.hot, true
	}
	packed, ok := t.tunnels.Get(id)
	if !ok {
		return nil, false
	}
	return t.unpack(packed), true
}

// Tombstone finds the record of a deleted tunnel.
func (t *Table) Tombstone(id string) (*Tunnel, bool) {
	packed, ok := t.tombs.Get(id)
	if !ok {
		return nil, false
	}
	return t.unpack(packed), true
}

func (t *Table) unpack(packed string) *Tunnel {
	tun, err := DecodeTunnel([]byte(packed))
	if err != nil { // it was encoded or checked by Restore
		panic(fmt.Sprintf("decode tunnel: %v", err))
	}
	return tun
}

// Tunnels calls f for each tunnel whose id is after the given one, in order, until it returns false.
func (t *Table) Tunnels(after string, f func(*Tunnel) bool) {
	t.tunnels.Ascend(after, func(id, packed string) bool {
		if id == after {
			return true
		}
		return f(t.unpack(packed))
	})
}

// PutTunnel stores tun, which nobody may write to from now on, as it is, lays its claims and moves its load. It asks nothing: see CheckTunnel.
func (t *Table) PutTunnel(tun *Tunnel) {
	id := t.forget(tun.ID)
	packed, err := tun.Encode()
	t.record(KindTunnel, id, tun.Header, packed, err)
	t.tombs.Delete(id)
	t.insert(id, tun, string(packed))
	t.hot = tun
}

// DeleteTunnel leaves a tombstone of tun, whose header says when and by whom; tun itself, which other tables may share, is
// not written to. Its pin is the assigner's to drop.
func (t *Table) DeleteTunnel(tun *Tunnel) {
	id, tomb := t.forget(tun.ID), *tun
	tomb.Header.Deleted = true
	packed, err := tomb.Encode()
	t.record(KindTunnel, id, tomb.Header, packed, err)
	t.tunnels.Delete(id)
	t.tombs.Set(id, string(packed))
}

// Empty tells whether a group has no tunnel.
func (t *Table) Empty(g GroupID) bool {
	if _, explicit := g.Explicit(); explicit {
		return !t.hasMembers(g)
	}
	_, ok := t.tunnels.Get(string(g))
	return !ok
}

func (t *Table) hasMembers(g GroupID) (found bool) {
	t.members.Ascend(member{group: g}, func(m member) bool {
		found = m.group == g
		return false
	})
	return found
}

// forget takes a tunnel's claims and load away, if there is one, and returns the id as it is already in memory.
func (t *Table) forget(id string) string {
	old, ok := t.Tunnel(id)
	if !ok {
		return strings.Clone(id)
	}
	t.hot = nil
	t.tunnels.Ascend(id, func(kept, _ string) bool { id = kept; return false })
	t.loads.addTunnel(t, old, -1)
	t.homeless -= t.lacks(old)
	t.eachEndpointClaim(id, old, func(c claim) { t.layEndpoint(c, -1) })
	t.eachSubnetClaim(id, old, func(c claim) { t.subnets.drop(c); t.touchSubnet(c) })
	if old.Group != "" {
		t.groupOf.Delete(id)
		t.members.Delete(member{old.GroupID(), id})
	}
	for _, name := range old.SeparateFrom {
		t.apart.Delete(member{GroupID(name), id})
	}
	return id
}

func (t *Table) insert(id string, tun *Tunnel, packed string) {
	t.tunnels.Set(id, packed)
	if tun.Group != "" {
		t.groupOf.Set(id, tun.GroupID())
		t.members.Set(member{tun.GroupID(), id})
	}
	for _, name := range tun.SeparateFrom {
		t.apart.Set(member{GroupID(name), id})
	}
	t.eachEndpointClaim(id, tun, func(c claim) { t.layEndpoint(c, 1) })
	t.eachSubnetClaim(id, tun, func(c claim) { t.subnets.lay(c); t.touchSubnet(c) })
	t.loads.addTunnel(t, tun, 1)
	t.homeless += t.lacks(tun)
}

// lacks is 1 if a tunnel's service or tenant is not known, so that it lays not all its claims; else 0.
func (t *Table) lacks(tun *Tunnel) int {
	_, service := t.services[tun.Service]
	_, tenant := t.tenants[tun.Tenant]
	if service && tenant {
		return 0
	}
	return 1
}

// layEndpoint lays a claim (sign 1) or drops it (sign -1).
func (t *Table) layEndpoint(c claim, sign int) {
	if sign > 0 {
		t.endpoints.lay(c)
	} else {
		t.endpoints.drop(c)
	}
	if c.low != 0 {
		t.ported += sign
	}
	t.touchEndpoint(c)
}

func (t *Table) eachEndpointClaim(id string, tun *Tunnel, f func(claim)) {
	s, ok := t.services[tun.Service]
	if !ok {
		return
	}
	for _, ep := range tun.Claimed() {
		for _, vip := range s.VIPs {
			if vip.Is4() == ep.Addr().Is4() {
				f(claim{t.vips[vip], bitsOf(ep.Addr()), ep.Port(), tun.Created, id})
			}
		}
	}
}

func (t *Table) eachSubnetClaim(id string, tun *Tunnel, f func(claim)) {
	n, ok := t.tenants[tun.Tenant]
	if !ok {
		return
	}
	for _, p := range tun.Subnets {
		f(claim{n.Num, bitsOf(p.Addr()), lengthOf(p), tun.Created, id})
	}
}

func (t *Table) touchEndpoint(c claim) {
	for vip, num := range t.vips {
		if num == c.space {
			a := c.addr.netip()
			t.dirty.Endpoints = append(t.dirty.Endpoints, EndpointKey{vip, a, c.low})
			if c.low != 0 {
				t.dirty.Endpoints = append(t.dirty.Endpoints, EndpointKey{vip, a, 0})
			}
		}
	}
}

func (t *Table) touchSubnet(c claim) {
	t.dirty.Subnets = append(t.dirty.Subnets, SubnetKey{c.space, prefixOf(c)})
}

// sorted is a small map's values in key order.
func sorted[V any](m map[string]V) []V {
	out := make([]V, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, m[k])
	}
	return out
}
