// Package plane is the seam between the table and what forwards packets: the facts a data plane is given, the interface
// it implements, and the words in which it explains a decision.
//
// A data plane owns what it has put into the kernel and nothing else. It does not choose: every pin that it is given
// already says primary and backup, or why packets are to be dropped.
package plane

import (
	"context"
	"errors"
	"iter"
	"net/netip"

	"tunneldirector/affinity"
)

// ErrUnsupported is wrapped by a plane that cannot exist here (another operating system, a kernel too old, a missing
// capability) or cannot do what the configuration asks of it.
var ErrUnsupported = errors.New("not supported here")

// A Plane forwards packets as it is told. Its methods are called from one goroutine, except Lookup and the methods of
// what else it may be (optional.go), which may be called from any.
type Plane interface {
	// Apply programs changes: u.Config first if it is not nil, then the entries, those that are set before those that
	// are deleted. It is idempotent. On an error some changes may be in place: the caller applies them again or Replaces.
	Apply(ctx context.Context, u Update) error
	// Replace makes the plane hold exactly this, by difference to what it holds, without disturbing what stays. It is how a
	// director starts, and how it repairs.
	Replace(ctx context.Context, c Config, entries iter.Seq[Entry]) error
	// SetAlive says whether packets may go to a real server's incarnation. It is one write, whatever the number of pins.
	SetAlive(i affinity.Index, alive bool) error
	// Lookup tells what would become of a packet now, from what the plane really holds, and changes no counter.
	Lookup(p Packet) (Decision, error)
	// Close lets go of the plane. What forwards goes on forwarding.
	Close() error
}

// An Update is a set of changes.
type Update struct {
	Config  *Config // nil: as before
	Entries []Entry
}

// Config is all that is small. It is always given whole.
type Config struct {
	Services    []Service
	Tenants     []Tenant
	RealServers []RealServer // of every incarnation that a pin may name, dead ones too
	Own         []netip.Addr // the director's addresses, VIPs not among them: they always win over a subnet
}

// A Role is what an interface is for; an interface may have several.
type Role uint8

// The roles.
const (
	RoleTunnel      Role = 1 << iota // sites dial VIPs through it
	RoleSubnet                       // target hosts send to subnets through it
	RoleRealServers                  // real servers are reached through it
)

// An Interface is a fact local to the node. A plane is made with those it is to use.
type Interface struct {
	Name   string
	Roles  Role
	Tenant string            // of untagged packets on the subnet side; "" is the default tenant
	VLANs  map[uint16]string // 802.1Q tag -> tenant; other tags belong to nobody and are left to the stack
}

// A Service is what a plane needs to know of a virtual service.
type Service struct {
	Num   uint16 // 1..64, stable
	Name  string // for people
	VIPs  []netip.Addr
	Match []affinity.Match
	// Method is that of its real servers, which have it too; it is here for a Checker.
	Method affinity.Method
	// Ring is consulted for endpoints without a pin: Ring[HashAddr(source) % len(Ring)]. Empty: drop. Its length is 0 or
	// RingSize.
	Ring []Target
}

// A Tenant is a subnet space and the interfaces it is told by.
type Tenant struct {
	Num    uint16 // stable; 0 is the default tenant
	Name   string
	Covers []netip.Prefix // no match inside is a drop
}

// A RealServer is one incarnation.
type RealServer struct {
	Index  affinity.Index
	Name   string // for people
	Addrs  []netip.Addr
	Method affinity.Method
	MTU    int               // of the path to it, bytes of IP; 0: the interface's (mem: 1500)
	VLANs  map[uint16]uint16 // tenant number -> 802.1Q tag on the subnet side
	Alive  bool
}

// A Target is what a key leads to: a primary and, if that is dead, a backup; or the reason of a drop.
type Target struct {
	Primary, Backup affinity.Index
	Drop            Reason // 0: forward
}

// EndpointKey and SubnetKey are the table's.
type (
	EndpointKey = affinity.EndpointKey // of the tunnel side: VIP and Addr of one family; Port 0 is the whole address
	SubnetKey   = affinity.SubnetKey   // of the subnet side, matched by longest prefix within its tenant
)

// An Entry sets or deletes the target of one key: Endpoint where that is valid (Endpoint.VIP.IsValid()), else Subnet.
type Entry struct {
	Endpoint EndpointKey
	Subnet   SubnetKey
	Target   Target
	Delete   bool
}

// Stats are counters since the maps were made, so that they survive the daemon.
type Stats struct {
	RealServers map[affinity.Index]Traffic
	Services    map[uint16]Traffic           // forwarded, tunnel side
	Subnet      Traffic                      // forwarded, subnet side
	Reasons     map[Reason]uint64            // packets dropped or passed up
	ServiceDrop map[uint16]map[Reason]uint64 // nil: not known by service
	Capacity    map[string]Usage             // of kernel maps, by name
}

// Traffic counts packets and bytes of IP (without Ethernet).
type Traffic struct{ Packets, Bytes uint64 }

// Usage is how full a table of fixed size is.
type Usage struct{ Entries, Max uint64 }
