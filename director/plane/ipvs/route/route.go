package route

import (
	"errors"
	"fmt"
	"net/netip"
)

// Protocol marks routes (rtm_protocol), nexthop objects (nh_protocol) and rules (FRA_PROTOCOL) as ours; `ip route` shows it
// as proto 125. The numbers that others have are in include/uapi/linux/rtnetlink.h (RTPROT_).
const Protocol = 125

// SinkName is the interface where packets end whose nexthop has lost its link. Its peer has the same name and an "x".
const SinkName = "td-sink"

var (
	// ErrDown is wrapped by SetNexthops when all that is wrong is that links are down or absent: the objects are there and
	// drop, until they are set again with the link up.
	ErrDown = errors.New("its link is down, packets are dropped until that is up and the nexthop is set again")
	// ErrInUse is wrapped by DeleteNexthops for what routes still lead to.
	ErrInUse = errors.New("routes lead to it")
	// ErrForeign is wrapped by SetRoutes for a route that somebody else has put there with the same prefix and metric.
	ErrForeign = errors.New("somebody else has put it there, and it is left alone")
	// ErrChanged is wrapped by what reads when the kernel's table changed underneath: what was read may be incomplete.
	ErrChanged = errors.New("changed while it was read")
)

// A Nexthop is where routes lead. Exactly one of Gateway, Encap and Blackhole is set; one that is read back with none of
// them has lost its link, and drops.
type Nexthop struct {
	ID        uint32     // 1 to 0x7effffff
	V6        bool       // family of the routes that may lead to it
	Gateway   netip.Addr // a neighbour on Link, of that family
	Link      string     // interface; under Encap "" is this package's tunnel device of the family
	Encap     netip.Addr // outer destination of IPIP, by Link, which is a tunnel device in external mode
	Blackhole bool
}

func (n Nexthop) String() string {
	switch {
	case n.Blackhole:
		return fmt.Sprintf("nexthop %#x (blackhole)", n.ID)
	case n.Encap.IsValid():
		return fmt.Sprintf("nexthop %#x (to %v by %s)", n.ID, n.Encap, n.link())
	case n.Gateway.IsValid():
		return fmt.Sprintf("nexthop %#x (via %v on %s)", n.ID, n.Gateway, n.Link)
	}
	return fmt.Sprintf("nexthop %#x (lost its link)", n.ID)
}

// link is the interface that packets leave by.
func (n Nexthop) link() string {
	if n.Encap.IsValid() && n.Link == "" {
		return tunnelName(n.V6)
	}
	return n.Link
}

func (n Nexthop) validate() error {
	set := 0
	for _, is := range []bool{n.Gateway.IsValid(), n.Encap.IsValid(), n.Blackhole} {
		if is {
			set++
		}
	}
	switch {
	case n.ID == 0 || n.ID >= firstMember:
		return fmt.Errorf("set %v: the id is not between 1 and %#x", n, firstMember-1)
	case set != 1:
		return fmt.Errorf("set %v: it needs exactly one of a gateway, an outer destination and a blackhole", n)
	case n.Gateway.IsValid() && (n.Gateway.Is6() != n.V6 || n.Link == ""),
		n.Encap.IsValid() && n.Encap.Is6() != n.V6:
		return fmt.Errorf("set %v: the address is of the other family, or the interface is missing", n)
	}
	return nil
}

// A Route leads a prefix to a Nexthop or into a hole. Table, Prefix and Metric together are its key.
type Route struct {
	Table   uint32
	Prefix  netip.Prefix // masked
	Nexthop uint32       // 0: a blackhole without a nexthop object, that nothing but its deletion takes away
	Metric  uint32       // not 0, of which IPv6 would make 1024; the lowest wins
}

func (r Route) String() string {
	return fmt.Sprintf("%v in table %d, metric %d", r.Prefix, r.Table, r.Metric)
}

func (r Route) validate() error {
	if !r.Prefix.IsValid() || r.Prefix != r.Prefix.Masked() || r.Table == 0 || r.Metric == 0 || r.Nexthop >= firstMember {
		return fmt.Errorf("route %v: the prefix is not canonical, or the table, metric or nexthop out of range", r)
	}
	return nil
}

// A Rule leads packets to a table.
type Rule struct {
	Priority uint32
	V6       bool
	IIF      string       // interface that they came by; "lo": the kernel's own lookups, IPVS's among them; "": any
	To       netip.Prefix // invalid: any
	Table    uint32
}

func (r Rule) String() string {
	s := fmt.Sprintf("rule %d", r.Priority)
	if r.To.IsValid() {
		s += " to " + r.To.String()
	}
	if r.IIF != "" {
		s += " from interface " + r.IIF
	}
	return fmt.Sprintf("%s, table %d", s, r.Table)
}

func (r Rule) validate() error {
	if r.Priority == 0 || r.Table == 0 || r.To.IsValid() && (r.To.Addr().Is6() != r.V6 || r.To != r.To.Masked()) {
		return fmt.Errorf("%v: priority and table must not be 0, and the prefix canonical and of the rule's family", r)
	}
	return nil
}

// Ids of the members of groups.
const (
	firstMember = 0x7f000000
	sink4       = firstMember + 4
	sink6       = firstMember + 6
	hole4       = firstMember + 14
	hole6       = firstMember + 16
	firstHop    = firstMember + 0x100
)

// tunnelName is this package's tunnel device of a family.
func tunnelName(v6 bool) string {
	if v6 {
		return Tunnel6
	}
	return Tunnel4
}

// Names of the tunnel devices that EnsureTunnel makes.
const (
	Tunnel4 = "td-ipip"
	Tunnel6 = "td-ip6ip6"
)
