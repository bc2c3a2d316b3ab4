package gossip

import (
	"fmt"
	"net/netip"

	"github.com/hashicorp/memberlist"

	"tunneldirector/cluster"
)

// A delegate is what memberlist calls, under its own lock.
type delegate struct{ g *Gossip }

// NodeMeta says who this director is.
func (d delegate) NodeMeta(int) []byte {
	self := d.g.o.Self
	self.Leaving = d.g.leaving.Load()
	data, _ := encodeMeta(self) // Open has tried it
	return data
}

// NotifyJoin is of a node that is new, or alive again, or of this one.
func (d delegate) NotifyJoin(n *memberlist.Node) { d.is(n) }

// NotifyUpdate is of a node whose metadata is new.
func (d delegate) NotifyUpdate(n *memberlist.Node) { d.is(n) }

// NotifyLeave is of a node that left, or is dead.
func (d delegate) NotifyLeave(n *memberlist.Node) {
	d.g.mu.Lock()
	delete(d.g.nodes, n.Name)
	d.g.mu.Unlock()
	poke(d.g.changed)
}

func (d delegate) is(n *memberlist.Node) {
	g := d.g
	if n.Name == g.o.Self.Name {
		return
	}
	is := node{addr: addrOf(n)}
	m, err := decodeMeta(n.Name, n.Meta)
	if err != nil {
		g.faults.Add("meta "+n.Name, fmt.Sprintf("director %s at %v is not taken for a member: %v", n.Name, is.addr, err), 0)
		m = cluster.Member{}
	} else {
		g.faults.Clear("meta " + n.Name)
		g.faults.Clear(joining(is.addr)) // it was found by others, or asked itself
	}
	is.member = m
	g.mu.Lock()
	g.nodes[n.Name] = is
	g.mu.Unlock()
	poke(g.changed)
}

// NotifyConflict is of a name at two addresses, neither of which is known to be gone.
func (d delegate) NotifyConflict(existing, other *memberlist.Node) {
	g := d.g
	g.faults.Add("name "+other.Name, fmt.Sprintf("two directors have the name %s, at %v and at %v: stop one, or give it another name", other.Name, addrOf(existing), addrOf(other)), g.pace.twin)
	if other.Name == g.o.Self.Name {
		poke(g.again) // say again who has it
	}
}

// NotifyMsg, GetBroadcasts, LocalState and MergeRemoteState are for data of one's own: there is none.
func (d delegate) NotifyMsg([]byte)                {}
func (d delegate) GetBroadcasts(int, int) [][]byte { return nil }
func (d delegate) LocalState(bool) []byte          { return nil }
func (d delegate) MergeRemoteState([]byte, bool)   {}

func addrOf(n *memberlist.Node) netip.AddrPort {
	addr, _ := netip.AddrFromSlice(n.Addr)
	return netip.AddrPortFrom(addr.Unmap(), n.Port)
}
