package route

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// A hop is a member of groups: where packets really go.
type hop struct {
	v6    bool
	addr  netip.Addr // gateway, or outer destination
	encap bool
	link  string
}

func (n Nexthop) hop() hop {
	if n.Encap.IsValid() {
		return hop{n.V6, n.Encap, true, n.link()}
	}
	return hop{n.V6, n.Gateway, false, n.Link}
}

// A seat is what we know of a hop in the kernel.
type seat struct {
	id    uint32
	index int // of the interface, when it was last made; 0: unknown
}

// A member is a hop to be set.
type member struct {
	hop
	id    uint32
	index int // of the interface
	mode  uint16
}

func (m member) String() string {
	return fmt.Sprintf("hop %v on interface %s", m.addr, m.link)
}

// SetNexthops creates or replaces nexthops, each atomically for all routes that lead to it, in any order. One whose hop
// the kernel does not take (its link is down, its gateway is no neighbour) drops packets until it is set again, so that
// none goes where it did before; the error says which. If it wraps ErrDown nothing else is wrong. It costs two messages a
// nexthop at most, whatever the number of routes, if net.ipv4.nexthop_compat_mode is 0; else the kernel announces
// every route over it.
func (t *Tables) SetNexthops(ctx context.Context, nexthops []Nexthop) error {
	for _, n := range nexthops {
		if err := n.validate(); err != nil {
			return err
		}
	}
	if err := t.ensureSink(ctx); err != nil {
		return err
	}
	dead, err := t.setHops(ctx, nexthops)
	if err != nil {
		return fmt.Errorf("set nexthops: %w", err)
	}
	var bad, down refusals
	err = bulk(ctx, t.conn, slices.Values(nexthops), func(b []byte, n Nexthop) []byte {
		return appendGroup(b, n, t.members(n, dead))
	}, func(n Nexthop, err error) { bad.add("set", n, err) })
	if err != nil {
		return fmt.Errorf("set nexthops: %w", err)
	}
	for _, n := range nexthops {
		switch err := dead[n.hop()]; {
		case n.Blackhole, err == nil:
		case errors.Is(err, unix.ENETDOWN), errors.Is(err, unix.ENODEV), errors.Is(err, os.ErrNotExist):
			down.add("set", n, fmt.Errorf("%w: %w", ErrDown, err))
		default:
			bad.add("set", n, fmt.Errorf("packets are dropped: %w", err))
		}
	}
	if err := bad.err(); err != nil {
		return err
	}
	return down.err()
}

// members are a nexthop's, in order.
func (t *Tables) members(n Nexthop, dead map[hop]error) []uint32 {
	sink, hole := uint32(sink4), uint32(hole4)
	if n.V6 {
		sink, hole = sink6, hole6
	}
	switch {
	case n.Blackhole:
		return []uint32{hole}
	case dead[n.hop()] != nil:
		return []uint32{sink}
	}
	return []uint32{t.hops[n.hop()].id, sink}
}

// setHops makes the members that nexthops need, all of them: the kernel does not tell when it takes one away. It returns those
// that it would not take.
func (t *Tables) setHops(ctx context.Context, nexthops []Nexthop) (map[hop]error, error) {
	dead := map[hop]error{}
	index := map[string]int{}
	members := map[hop]member{}
	for _, n := range nexthops {
		h := n.hop()
		if _, seen := members[h]; seen || n.Blackhole {
			continue
		}
		if _, seen := index[h.link]; !seen {
			i, err := t.ifIndex(h.link)
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return nil, err
			}
			index[h.link] = i // 0: there is none
		}
		if index[h.link] == 0 {
			dead[h] = fmt.Errorf("interface %s: %w", h.link, os.ErrNotExist)
			continue
		}
		members[h] = t.member(h, index[h.link])
	}
	err := bulk(ctx, t.conn, maps.Values(members), appendHop, func(m member, err error) {
		if m.mode != unix.NLM_F_EXCL || !errors.Is(err, unix.EEXIST) {
			dead[m.hop] = err
		}
	})
	if err != nil {
		return nil, err
	}
	for h, m := range members {
		if dead[h] == nil {
			t.hops[h] = seat{m.id, m.index}
		}
	}
	if slices.ContainsFunc(nexthops, func(n Nexthop) bool { return n.Encap.IsValid() }) {
		return dead, t.fitTunnels()
	}
	return dead, nil
}

// member is how a hop is made: with its id or a free one, and not again if it is there as it should be. Else the kernel would
// visit all routes of all groups that have it (nexthop_replace_notify and nh_rt_cache_flush in net/ipv4/nexthop.c).
func (t *Tables) member(h hop, index int) member {
	m := member{h, t.hops[h].id, index, unix.NLM_F_REPLACE}
	switch {
	case m.id == 0:
		m.id = t.nextHop
		t.nextHop++
		t.hops[h] = seat{id: m.id}
	case t.hops[h].index == index:
		m.mode = unix.NLM_F_EXCL
	}
	return m
}

func appendHop(b []byte, m member) []byte {
	b = appendNexthop(b, m.mode, family(m.v6), m.id, 0)
	b = attr32(b, unix.NHA_OIF, uint32(m.index))
	if !m.encap {
		return attrAddr(b, unix.NHA_GATEWAY, m.addr)
	}
	kind := uint16(unix.LWTUNNEL_ENCAP_IP)
	if m.v6 {
		kind = unix.LWTUNNEL_ENCAP_IP6
	}
	b = attr16(b, unix.NHA_ENCAP_TYPE, kind)
	return attr(b, unix.NHA_ENCAP|unix.NLA_F_NESTED, outer(m.addr))
}

// outer is the outer header of IPIP in the words of lwtunnel.h: TTL 64, the inner TOS (1 says so), DF.
func outer(dst netip.Addr) []byte {
	b := attrAddr(nil, lwtunnelDst, dst)
	b = attr(b, lwtunnelTTL, []byte{64})
	b = attr(b, lwtunnelTOS, []byte{1})
	return attr(b, lwtunnelFlags, binary.BigEndian.AppendUint16(nil, dontFragment))
}

// appendNexthop begins an RTM_NEWNEXTHOP that creates, or does what mode says (NLM_F_REPLACE, NLM_F_EXCL).
func appendNexthop(b []byte, mode uint16, family byte, id uint32, flags uint32) []byte {
	b = begin(b, unix.RTM_NEWNEXTHOP, unix.NLM_F_CREATE|mode)
	b = native.AppendUint32(append(b, family, 0, Protocol, 0), flags)
	return attr32(b, unix.NHA_ID, id)
}

// appendGroup writes a nexthop with its members: the first has all of the one bucket. An idle timer of 0 gives it the bucket
// at once, even if packets come just now.
func appendGroup(b []byte, n Nexthop, members []uint32) []byte {
	b = appendNexthop(b, unix.NLM_F_REPLACE, unix.AF_UNSPEC, n.ID, 0)
	group := make([]byte, 0, 2*sizeofNexthopItem)
	for i, id := range members {
		weight := byte(254) // 255 times the weight of the other
		if i > 0 {
			weight = 0
		}
		group = append(native.AppendUint32(group, id), weight, 0, 0, 0)
	}
	b = attr(b, unix.NHA_GROUP, group)
	b = attr16(b, unix.NHA_GROUP_TYPE, groupResilient)
	res := attr32(attr16(nil, nhaResBuckets, 1), nhaResIdleTimer, 0)
	return attr(b, nhaResGroup|unix.NLA_F_NESTED, res)
}

// DeleteNexthops removes nexthops, and members that no other has; an id that is not there is as good as removed. The kernel
// would delete the routes over them, silently; so all our routes are read first, and a nexthop that any leads to stays,
// with an error that wraps ErrInUse. (Somebody else's routes over our nexthops are not looked for.) After the last
// nexthop the sink goes too.
func (t *Tables) DeleteNexthops(ctx context.Context, ids []uint32) error {
	if i := slices.IndexFunc(ids, func(id uint32) bool { return id == 0 || id >= firstMember }); i >= 0 {
		return fmt.Errorf("delete nexthop %#x: the id is not between 1 and %#x", ids[i], firstMember-1)
	}
	used := map[uint32]Route{}
	for r, err := range t.Routes(0) {
		if err != nil {
			return fmt.Errorf("delete nexthops: %w", err)
		}
		used[r.Nexthop] = r
	}
	var bad refusals
	free := slices.DeleteFunc(slices.Clone(ids), func(id uint32) bool {
		r, is := used[id]
		if is {
			bad.add("delete", Nexthop{ID: id, Blackhole: true}, fmt.Errorf("%w: %v", ErrInUse, r))
			return true
		}
		return false
	})
	if err := t.delete(ctx, free, &bad); err != nil {
		return err
	}
	return cmp.Or(bad.err(), t.sweepHops(ctx))
}

func (t *Tables) delete(ctx context.Context, ids []uint32, bad *refusals) error {
	err := bulk(ctx, t.conn, slices.Values(ids), func(b []byte, id uint32) []byte {
		b = append(begin(b, unix.RTM_DELNEXTHOP, 0), make([]byte, unix.SizeofNhmsg)...)
		return attr32(b, unix.NHA_ID, id)
	}, func(id uint32, err error) {
		if !errors.Is(err, unix.ENOENT) {
			bad.add("delete", Nexthop{ID: id, Blackhole: true}, err)
		}
	})
	if err != nil {
		return fmt.Errorf("delete nexthops: %w", err)
	}
	return nil
}

// sweepHops removes members that no group has any more.
func (t *Tables) sweepHops(ctx context.Context) error {
	used := map[uint32]bool{}
	var have []uint32
	groups := 0
	for o, err := range t.objects() {
		switch {
		case err != nil:
			return fmt.Errorf("delete nexthops: %w", err)
		case o.id < firstMember:
			groups++
			for _, m := range o.members {
				used[m] = true
			}
		case o.id >= firstHop || groups == 0: // in the order of ids: groups come before members
			have = append(have, o.id)
		}
	}
	var bad refusals
	err := t.delete(ctx, slices.DeleteFunc(have, func(id uint32) bool { return used[id] }), &bad)
	maps.DeleteFunc(t.hops, func(_ hop, s seat) bool { return !used[s.id] })
	if err == nil && groups == 0 {
		err = t.removeLink(SinkName)
	}
	return cmp.Or(err, bad.err())
}

// Nexthops reads ours. One whose hop the kernel has taken away has none of Gateway, Encap and Blackhole.
func (t *Tables) Nexthops() iter.Seq2[Nexthop, error] {
	return func(yield func(Nexthop, error) bool) {
		members := map[uint32]Nexthop{}
		var groups []object
		for o, err := range t.objects() {
			switch {
			case err != nil:
				yield(Nexthop{}, fmt.Errorf("read nexthops: %w", err))
				return
			case o.id < firstMember:
				groups = append(groups, o)
			default:
				members[o.id] = o.nexthop()
			}
		}
		for _, g := range groups {
			n := Nexthop{ID: g.id}
			if len(g.members) > 0 {
				n = members[g.members[0]]
				n.ID = g.id
			}
			if !yield(n, nil) {
				return
			}
		}
	}
}
