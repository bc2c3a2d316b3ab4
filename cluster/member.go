package cluster

import (
	"net/netip"
	"time"

	"github.com/cespare/xxhash/v2"
)

// MaxRank is the highest rank, and so how many directors a cluster may have.
const MaxRank = 16

// A Role says on which side of the tunnels a director stands.
type Role string

// The roles.
const (
	RoleBoth   Role = "both"
	RoleTunnel Role = "tunnel" // owns virtual IPs
	RoleSubnet Role = "subnet" // owns gateways
)

// A Member is a director as its configuration describes it. Gossip tells the others.
type Member struct {
	Name    string
	Rank    int // 1 to MaxRank, unique; of the live ones the lowest assigns
	Role    Role
	Stream  netip.AddrPort   // where it takes streams of other directors
	Beats   []netip.AddrPort // where it takes heartbeats, one for each path
	Leaving bool             // it said that it goes
}

// A Hash stands for a name or an address in a Beat, which has to fit into a datagram.
type Hash uint32

// HashOf is the hash of a real server's name or of an address as text.
func HashOf(s string) Hash { return Hash(xxhash.Sum64String(s)) }

// MaxHashes is how many hashes each list of a Beat holds at most. A longer list is left out, and Many says so.
const MaxHashes = 128

// A Beat is what a director says of itself in every heartbeat.
type Beat struct {
	From     string
	Start    int64 // when its process began, Unix nanoseconds: a later one supersedes all before
	Seq      uint64
	Wall     time.Time     // its wall clock, to the millisecond
	Ready    bool          // it holds the table
	ReadyFor time.Duration // how long it has been so
	Leaving  bool
	Hung     bool // its loop does not turn
	Sick     bool // it cannot reach real servers that a live peer reaches
	Assigns  bool // it takes itself for the assigner
	Probes   bool // it measures real servers, and has done so long enough to judge
	// Unreached are the real servers that do not answer it (names), Holds the addresses that it holds.
	Unreached []Hash
	Holds     []Hash
	Many      bool   // one of the lists was too long to be said
	Full      bool   // its store takes no writes: it cannot assign
	Assigner  Hash   // of the director that it hears, itself among them, which would be the assigner; 0: none
	Records   uint64 // in its table
	Revision  uint64 // of its store
	Root      uint64 // of its table's digest
	Echo      Echo
}

// An Echo names a beat that a director has heard lately of another one, of each in turn. Who finds one of its own last beats in
// it knows that what it hears was sent just now, whatever the clocks say.
type Echo struct {
	Of    Hash // a director's name
	Start int64
	Seq   uint64
}

// Reaches tells whether the director that says b gets answers of a real server; known is false if it has no opinion.
func (b Beat) Reaches(realServer string) (reaches, known bool) {
	if !b.Probes || b.Many {
		return false, false
	}
	h := HashOf(realServer)
	for _, u := range b.Unreached {
		if u == h {
			return false, true
		}
	}
	return true, true
}

// HoldsAddr tells whether the director that says b holds an address.
func (b Beat) HoldsAddr(a netip.Addr) bool {
	h := HashOf(a.String())
	for _, x := range b.Holds {
		if x == h {
			return true
		}
	}
	return false
}
