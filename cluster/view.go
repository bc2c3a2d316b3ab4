package cluster

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// A Peer is another director as this one sees it.
type Peer struct {
	Member Member
	Beat   Beat          // the newest; zero: never heard
	Alive  bool          // heard lately enough
	Since  time.Time     // of Alive's last change
	Heard  time.Time     // of the newest beat; zero: never
	Offset time.Duration // its wall clock less ours, as its last beats came
	Paths  []Path
}

// A Path is one way on which a peer's heartbeats come.
type Path struct {
	Addr  netip.AddrPort // the peer's, on this path
	Heard time.Time
	Lost  float64 // share of the last beats that did not come, 0 to 1
}

// A View is what one director knows of all.
type View struct {
	Self  Member
	Beat  Beat   // what it says of itself
	Peers []Peer // by name
}

// Fit tells whether a peer may take part: it is heard, holds the table, and neither leaves nor hangs.
func (p Peer) Fit() bool { return p.Alive && one{p.Member, p.Beat}.fit() }

// one is a director in a view, itself or a peer.
type one struct {
	member Member
	beat   Beat
}

func (o one) fit() bool { return o.beat.Ready && !o.beat.Leaving && !o.member.Leaving && !o.beat.Hung }

// live are the directors that may take part, by rank.
func (v View) live() []one {
	var list []one
	if self := (one{v.Self, v.Beat}); self.fit() {
		list = append(list, self)
	}
	for _, p := range v.Peers {
		if p.Fit() {
			list = append(list, one{p.Member, p.Beat})
		}
	}
	slices.SortFunc(list, func(a, b one) int {
		return cmp.Or(cmp.Compare(a.member.Rank, b.member.Rank), cmp.Compare(a.member.Name, b.member.Name))
	})
	return list
}

// Assigner is who places groups and judges real servers: the live director of the lowest rank whose store takes writes; "" if
// none is ready. A director that one which is heard takes for the assigner, though it is not heard here, comes first: of two that
// cannot hear each other, but are both heard by a third, only one assigns.
func (v View) Assigner() string {
	best, ok := v.lowest()
	if !ok {
		return ""
	}
	l := v.live()
	for _, p := range v.Peers {
		if p.Alive || p.Member.Rank > best.Rank || p.Member.Rank == best.Rank && p.Member.Name >= best.Name {
			continue
		}
		heard := func(o one) bool { return o.member.Name != v.Self.Name && o.beat.Assigner == HashOf(p.Member.Name) }
		if slices.ContainsFunc(l, heard) {
			best = p.Member
		}
	}
	return best.Name
}

// Heard is the director that would be the assigner by what is heard here alone, for the Beat; 0: none.
func (v View) Heard() Hash {
	if m, ok := v.lowest(); ok {
		return HashOf(m.Name)
	}
	return 0
}

// lowest is the live director of the lowest rank whose store takes writes, if there is one that does.
func (v View) lowest() (Member, bool) {
	l := v.live()
	if len(l) == 0 {
		return Member{}, false
	}
	for _, o := range l {
		if !o.beat.Full {
			return o.member, true
		}
	}
	return l[0].member, true
}

// Alive are the names of the directors that are alive, this one among them, sorted.
func (v View) Alive() []string {
	names := []string{v.Self.Name}
	for _, p := range v.Peers {
		if p.Alive {
			names = append(names, p.Member.Name)
		}
	}
	slices.Sort(names)
	return names
}

// Peer finds another director by name.
func (v View) Peer(name string) (Peer, bool) {
	i := slices.IndexFunc(v.Peers, func(p Peer) bool { return p.Member.Name == name })
	if i < 0 {
		return Peer{}, false
	}
	return v.Peers[i], true
}

// A Side is what an address is for.
type Side Role

// The sides of owned addresses.
const (
	VIP     = Side(RoleTunnel)
	Gateway = Side(RoleSubnet)
)

// Owner is who is to hold an address, and why: the first of the preference list (and then by rank) that is live, of the right role and reaches the
// real servers. One that has come back waits until it has been ready for preempt before it takes an address from a holder that is as good.
func (v View) Owner(a netip.Addr, side Side, prefer []string, preempt time.Duration) (name, why string) {
	list := slices.DeleteFunc(v.live(), func(o one) bool {
		return o.member.Role != RoleBoth && o.member.Role != Role(side)
	})
	place := func(o one) int {
		if i := slices.Index(prefer, o.member.Name); i >= 0 {
			return i
		}
		return len(prefer)
	}
	slices.SortStableFunc(list, func(x, y one) int { return cmp.Compare(place(x), place(y)) })
	able := slices.DeleteFunc(slices.Clone(list), func(o one) bool { return o.beat.Sick })
	sick := len(able) < len(list)
	if len(able) == 0 {
		able = list // nobody reaches them: it is not the directors' fault
	}
	if len(able) == 0 {
		return "", "no live director may hold it"
	}
	best := able[0]
	for _, o := range able {
		if !o.beat.HoldsAddr(a) {
			continue
		}
		if o.member.Name != best.member.Name && best.beat.ReadyFor < preempt {
			return o.member.Name, fmt.Sprintf("holds it; %s takes it over when it has been ready for %v", best.member.Name, preempt)
		}
		break
	}
	switch {
	case sick:
		return best.member.Name, "preferred among those that reach the real servers"
	case slices.Contains(prefer, best.member.Name):
		return best.member.Name, fmt.Sprintf("number %d of its preference list", slices.Index(prefer, best.member.Name)+1)
	}
	return best.member.Name, fmt.Sprintf("lowest rank of the live ones (%d)", best.member.Rank)
}

// MaxOffset is how far a clock may be off the others' before its stamps go by logic alone.
const MaxOffset = time.Minute

// Offset is how far this director's clock is ahead of the median of all live ones, its own counted; 0 without peers.
func (v View) Offset() time.Duration {
	offsets := []time.Duration{0}
	for _, p := range v.Peers {
		if p.Alive {
			offsets = append(offsets, p.Offset)
		}
	}
	slices.Sort(offsets)
	n := len(offsets)
	if n%2 == 1 {
		return -offsets[n/2]
	}
	return -(offsets[n/2-1] + offsets[n/2]) / 2
}

// Faults says what is wrong with the members themselves, in sentences.
func (v View) Faults() []string {
	var out []string
	ranks := map[int]string{v.Self.Rank: v.Self.Name}
	for _, p := range v.Peers {
		if other, taken := ranks[p.Member.Rank]; taken {
			out = append(out, fmt.Sprintf("directors %s and %s have both rank %d: give one another cluster.rank and restart it", other, p.Member.Name, p.Member.Rank))
		}
		ranks[p.Member.Rank] = p.Member.Name
	}
	return out
}
