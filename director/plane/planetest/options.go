// Package planetest holds a plane against the oracle: seeded random histories of configurations, pins, deaths and
// restarts are applied to the plane under test and to mem, and after every step a batch of packets is compared.
//
//	func TestHistories(t *testing.T) {
//		planetest.Run(t, planetest.Options{
//			Interfaces: interfaces,                             // what the plane is opened with
//			Open:       func(t testing.TB) plane.Plane { ... }, // called again after Close: must adopt
//			Inject:     inject,                                 // optional: real frames through the real program
//			Hosts:      hosts,                                  // the machines of real servers, with their MACs
//		})
//	}
//
// One plane lives through all histories of a Run; each begins by Replace with nothing. By Lookup the whole Decision is
// compared, as mem fills it in. By Inject the verdict and every byte of the frame that
// comes out; and frames that no Packet can describe (cut short, of a wrong version, twice tagged) are dropped or passed up.
//
// A failure is shrunk to few steps and says how to replay it: PLANETEST_SEED=n runs that history alone,
// PLANETEST_HISTORIES=n runs so many. A history depends on its seed and the Options, on nothing else.
package planetest

import (
	"net"
	"net/netip"
	"testing"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
)

// Options say what is tested.
type Options struct {
	// Open opens the plane over Interfaces. A restart in a history is Close, then Open: all must be as it was, before
	// anything is applied.
	Open       func(t testing.TB) plane.Plane
	Interfaces []plane.Interface // nil: DefaultInterfaces
	Hosts      []Host            // nil: DefaultHosts
	Caps       Caps

	Histories int    // 0: 100
	Steps     int    // per history; 0: 25
	Packets   int    // after each step; 0: 40
	Seed      uint64 // of the first history, the next has one more; 0: random

	// Inject, if there is one, gives the plane a frame on an interface, and tells what became of it.
	Inject func(frame []byte, iface string) (Outcome, error)
	// MACs of the interfaces; those that are missing have DefaultMAC. Used with Inject only.
	MACs map[string]net.HardwareAddr
	// Sources are the addresses that the outer header of IPIP may have; nil: any.
	Sources []netip.Addr
}

// A Host is a machine on the real servers' network. The plane must know its MAC, by an entry in the neighbour table or
// however it learns. Real servers that share a host share all its addresses.
type Host struct {
	Addrs     []netip.Addr // at most one per family
	MAC       net.HardwareAddr
	Interface string // through which it is reached; "": not compared
}

// Caps tell what a plane cannot do, or is not to be asked. The zero value is all of design.
type Caps struct {
	Methods     []affinity.Method // nil: DR and IPIP
	NoIPv6      bool
	NoVLANs     bool // no packets with a tag, no real servers with tags
	NoRing      bool // unknown endpoints are dropped
	NoFragments bool
	NoICMP      bool
	NoRestart   bool
	NoLoops     bool    // packets do not come from real servers
	NoSizes     bool    // small packets, paths without an MTU of their own
	NoPort500   bool    // no endpoints with source port 500: ESP is looked up under it
	Protocols   []uint8 // that services may have; nil: any
	MaxPorts    int     // in one line of a service's protocols; 0: any number
	PortsOnly   bool    // endpoints have a source port
	// RestartForgets: a plane that was just opened has to be told all (Replace) before Lookup knows anything; what forwards goes on.
	RestartForgets bool
	// Stack: what the plane leaves to the director's own stack looks to Inject as if it were dropped.
	Stack bool
	// KernelOuter: the outer header of IPIP is the kernel's, which copies the inner one's TTL and DF.
	KernelOuter bool
}

// Verdict is what a plane did with a frame.
type Verdict uint8

// The verdicts.
const (
	Drop Verdict = iota
	Pass
	TX       // sent out by the interface that it came in by
	Redirect // sent out by another one
)

func (v Verdict) String() string { return [...]string{"drop", "pass", "tx", "redirect"}[v] }

// An Outcome is what became of a frame.
type Outcome struct {
	Verdict   Verdict
	Frame     []byte // as it left
	Interface string // that it left by; "": not known
}

// DefaultInterfaces are one per role, one with tags, and one with all roles.
func DefaultInterfaces() []plane.Interface {
	return []plane.Interface{
		{Name: "tun0", Roles: plane.RoleTunnel},
		{Name: "sub0", Roles: plane.RoleSubnet, VLANs: map[uint16]string{10: "blue", 11: "green", 12: ""}},
		{Name: "rs0", Roles: plane.RoleRealServers},
		{Name: "all0", Roles: plane.RoleTunnel | plane.RoleSubnet | plane.RoleRealServers, Tenant: "blue", VLANs: map[uint16]string{10: "green"}},
	}
}

// DefaultHosts are eight machines on 10.9.0.0/24 and 2001:db8:9::/64; two lack IPv6 and one lacks IPv4.
func DefaultHosts() []Host {
	var hosts []Host
	for i := byte(1); i <= 8; i++ {
		h := Host{MAC: net.HardwareAddr{2, 0, 0, 9, 0, i}}
		if i != 8 {
			h.Addrs = append(h.Addrs, netip.AddrFrom4([4]byte{10, 9, 0, i}))
		}
		if i < 6 || i == 8 {
			a := netip.MustParseAddr("2001:db8:9::").As16()
			a[15] = i
			h.Addrs = append(h.Addrs, netip.AddrFrom16(a))
		}
		hosts = append(hosts, h)
	}
	return hosts
}

// DefaultMAC is the MAC of interfaces that Options.MACs does not name.
func DefaultMAC() net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, 0, 1} }

func (o Options) withDefaults() Options {
	if o.Interfaces == nil {
		o.Interfaces = DefaultInterfaces()
	}
	if o.Hosts == nil {
		o.Hosts = DefaultHosts()
	}
	if o.Caps.Methods == nil {
		o.Caps.Methods = []affinity.Method{affinity.DR, affinity.IPIP}
	}
	o.Histories, o.Steps, o.Packets = orElse(o.Histories, 100), orElse(o.Steps, 25), orElse(o.Packets, 40)
	return o
}

func orElse(n, other int) int {
	if n == 0 {
		return other
	}
	return n
}
