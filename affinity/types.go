package affinity

import (
	"fmt"
	"net/netip"
)

// An Index is a real-server incarnation's place in the data planes' arrays. 0 is none. It is given out when an
// incarnation is born and not again while a pin names it.
type Index uint16

// MaxIndex is the highest index in use, and so how many incarnations can be known at once.
const MaxIndex Index = 4095

// A Method says how a packet reaches its real server.
type Method uint8

// The forwarding methods.
const (
	DR   Method = iota // direct routing: the destination MAC is rewritten
	IPIP               // tunnel: IPIP: 4in4 or 6in6
	Masq               // NAT; UDP only, and not every plane can
)

// A Policy chooses real servers for new groups.
type Policy uint8

// The placement policies.
const (
	LeastLoad Policy = iota
	RoundRobin
)

// Unknown says what happens to packets to a service from an endpoint without a pin.
type Unknown uint8

// The choices for unknown endpoints.
const (
	UnknownDrop Unknown = iota
	UnknownHash         // over the live real servers, by source address
)

// A Match is one line of a service's protocol set: an IP protocol and, for UDP (17) and TCP (6), a range of destination
// ports, both ends included. Protocols without ports have Lo = Hi = 0.
type Match struct {
	_     struct{} `cbor:",toarray"`
	Proto uint8
	Lo    uint16
	Hi    uint16
}

// HasPorts tells whether an IP protocol carries ports that this project looks at.
func HasPorts(proto uint8) bool { return proto == 6 || proto == 17 }

// A Service is what sites dial: virtual IPs and the protocols that are balanced there.
type Service struct {
	Header  Header       `cbor:"1,keyasint"`
	Name    string       `cbor:"2,keyasint"`
	Num     uint16       `cbor:"3,keyasint"` // its number in the data planes, given at creation, 1..64
	VIPs    []netip.Addr `cbor:"4,keyasint"` // at most 8; IPv4 and IPv6
	Match   []Match      `cbor:"5,keyasint"`
	Method  Method       `cbor:"6,keyasint"`
	Unknown Unknown      `cbor:"7,keyasint"`
	Policy  Policy       `cbor:"8,keyasint"`
	Learn   bool         `cbor:"9,keyasint,omitempty"` // take up tunnels that agents report and nobody announced
	// MaxUnavailable is how many of its real servers may be drained or dead before one more is not drained; 0: no limit.
	MaxUnavailable uint32 `cbor:"10,keyasint,omitempty"`
	// Prefer lists the directors that are to hold a VIP, the first one first. A VIP without a list goes by rank.
	Prefer map[netip.Addr][]string `cbor:"11,keyasint,omitempty"`
}

// A Tenant is a customer with a subnet space of its own. The one named "" is the default.
type Tenant struct {
	Header Header         `cbor:"1,keyasint"`
	Name   string         `cbor:"2,keyasint"`
	Num    uint16         `cbor:"3,keyasint"` // its number in the data planes; 0 is the default tenant
	Covers []netip.Prefix `cbor:"4,keyasint"` // covering prefixes: subnets lie inside them, and no match inside is a drop
	// Gateways are the addresses that target hosts use as next hop, and Prefer the directors that are to hold them, as a Service's.
	Gateways []netip.Addr            `cbor:"5,keyasint,omitempty"`
	Prefer   map[netip.Addr][]string `cbor:"6,keyasint,omitempty"`
}

// Admin is a real server's administrative state.
type Admin uint8

// The administrative states.
const (
	Active  Admin = iota
	Drained       // no new pins; with a Drain, the old ones are moved
)

// A RealServer is one tunnel terminator instance, as the operator wants it.
type RealServer struct {
	Header   Header            `cbor:"1,keyasint"`
	Name     string            `cbor:"2,keyasint"`
	Host     string            `cbor:"3,keyasint"` // the machine it runs on; default: its name
	Zone     string            `cbor:"4,keyasint"`
	Addrs    []netip.Addr      `cbor:"5,keyasint"` // on the real servers' network, at most one per family
	Services []string          `cbor:"6,keyasint"` // all of one forwarding method
	Weight   uint32            `cbor:"7,keyasint"` // relative; 0 takes no new pins
	Capacity uint32            `cbor:"8,keyasint"` // tunnels; 0 is no limit
	Admin    Admin             `cbor:"9,keyasint"`
	VLANs    map[string]uint16 `cbor:"10,keyasint,omitempty"` // 802.1Q tag per tenant on the subnet side
	Check    Check             `cbor:"11,keyasint"`
	Drain    *Drain            `cbor:"12,keyasint,omitempty"` // how it is emptied; nil, if drained: no new pins, nothing moves
}

// A Drain moves a real server's tunnels elsewhere.
type Drain struct {
	_       struct{} `cbor:",toarray"`
	Milli   uint32   // tunnels in 1000 s; 0: none before the deadline
	By      Stamp    // when the rest is moved; 0: never, the rate alone
	Started Stamp
	Of      uint32 // tunnels that it had then
}

// A Check is what proves a real server alive where no agent answers.
type Check struct {
	_     struct{} `cbor:",toarray"`
	Proto uint8    // 0: by the neighbour table (ARP, ND) alone; 17 or 6: also a packet to Port
	Port  uint16   // of the terminator, at the VIP, through this real server
}

// A Life is one incarnation of a real server. Death is latched: Alive never returns to true.
type Life struct {
	Header      Header `cbor:"1,keyasint"`
	RealServer  string `cbor:"2,keyasint"`
	Incarnation uint32 `cbor:"3,keyasint"` // 1, 2, ...
	Index       Index  `cbor:"4,keyasint"`
	Alive       bool   `cbor:"5,keyasint"`
	Since       Stamp  `cbor:"6,keyasint"` // when Alive last changed
	Cause       string `cbor:"7,keyasint"`
}

// State is the NMS's word on a tunnel.
type State uint8

// What the NMS says of a tunnel. Unsaid and down are both idle as far as the NMS knows.
const (
	StateUnsaid State = iota
	StateDown
	StateComing // it will be up in seconds
	StateUp
)

// An Endpoint is a site's public address. Port 0 means any source port.
type Endpoint = netip.AddrPort

// A Tunnel is the NMS's unit of intent.
type Tunnel struct {
	Header       Header            `cbor:"1,keyasint"`
	ID           string            `cbor:"2,keyasint"`
	Service      string            `cbor:"3,keyasint"`
	Owner        string            `cbor:"4,keyasint,omitempty"` // the token name that pushed it
	Created      Stamp             `cbor:"5,keyasint"`
	Endpoints    []Endpoint        `cbor:"6,keyasint,omitempty"`
	Subnets      []netip.Prefix    `cbor:"7,keyasint,omitempty"`
	Bandwidth    uint64            `cbor:"8,keyasint,omitempty"` // expected, bit/s; 0: not said
	Group        string            `cbor:"9,keyasint,omitempty"`
	Tenant       string            `cbor:"10,keyasint,omitempty"`
	State        State             `cbor:"11,keyasint,omitempty"`
	Labels       map[string]string `cbor:"12,keyasint,omitempty"`
	SeparateFrom []string          `cbor:"13,keyasint,omitempty"` // group names or tunnel ids
	Generation   uint64            `cbor:"14,keyasint,omitempty"` // 0: not said
	GenClosed    bool              `cbor:"15,keyasint,omitempty"` // of a tombstone: the delete named its generation, so that one is spent too
	Roamed       []Endpoint        `cbor:"16,keyasint,omitempty"` // where agents saw it besides its Endpoints; the newest first
}

// A GroupID names what is placed: an explicit group ("@" and its name) or a tunnel alone (its id).
type GroupID string

// GroupID is the group that t belongs to.
func (t *Tunnel) GroupID() GroupID {
	if t.Group != "" {
		return GroupID("@" + t.Group)
	}
	return GroupID(t.ID)
}

// Explicit tells whether g was named by the NMS, and the name.
func (g GroupID) Explicit() (string, bool) {
	if len(g) > 0 && g[0] == '@' {
		return string(g[1:]), true
	}
	return "", false
}

// Why says why a pin is as it is.
type Why uint8

// The reasons of placements.
const (
	WhyPlaced     Why = iota // chosen by the service's policy
	WhyFailed                // the primary died, the backup took over
	WhyOrphan                // primary and backup died
	WhyRepinned              // an operator said so
	WhyRebalanced            // rebalance
	WhyDrained               // drain
	WhyBackup                // only the backup was chosen anew
	WhyUnplaced              // no room: Primary is 0
)

func (w Why) String() string {
	return [...]string{"placed", "failed-over", "orphaned", "repinned", "rebalanced", "drained", "backup-changed", "unplaced"}[w]
}

// A Pin is the placement of a group. Primary 0 means unplaced: Note then says what is missing.
type Pin struct {
	Header  Header  `cbor:"1,keyasint"`
	Group   GroupID `cbor:"2,keyasint"`
	Primary Index   `cbor:"3,keyasint"`
	Backup  Index   `cbor:"4,keyasint,omitempty"` // 0: none
	Since   Stamp   `cbor:"5,keyasint"`           // when Primary last changed
	Why     Why     `cbor:"6,keyasint,omitempty"`
	Note    string  `cbor:"7,keyasint,omitempty"`
}

// A Load is a sum over tunnels.
type Load struct {
	Tunnels   uint32
	Unknown   uint32 // of these, how many have no expected bandwidth
	Bandwidth uint64 // bit/s, of the others
}

// Add returns l with o added.
func (l Load) Add(o Load) Load {
	return Load{l.Tunnels + o.Tunnels, l.Unknown + o.Unknown, l.Bandwidth + o.Bandwidth}
}

// Sub returns l with o taken away.
func (l Load) Sub(o Load) Load {
	return Load{l.Tunnels - o.Tunnels, l.Unknown - o.Unknown, l.Bandwidth - o.Bandwidth}
}

// Mean is the mean expected bandwidth, in bit/s, of the tunnels that have one; 1 where none has.
func (l Load) Mean() uint64 {
	if n := uint64(l.Tunnels - l.Unknown); n > 0 && l.Bandwidth >= n {
		return l.Bandwidth / n
	}
	return 1
}

// Bits is l in bit/s, tunnels without an expectation counted as mean.
func (l Load) Bits(mean uint64) float64 {
	return float64(l.Bandwidth) + float64(l.Unknown)*float64(mean)
}

func (m Match) String() string {
	name := ProtoName(m.Proto)
	switch {
	case !HasPorts(m.Proto):
		return name
	case m.Lo == m.Hi:
		return fmt.Sprintf("%s/%d", name, m.Lo)
	}
	return fmt.Sprintf("%s/%d-%d", name, m.Lo, m.Hi)
}

var protoNames = map[uint8]string{4: "ipip", 6: "tcp", 17: "udp", 47: "gre", 50: "esp", 51: "ah", 115: "l2tp"}
