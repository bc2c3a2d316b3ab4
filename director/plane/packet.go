package plane

import (
	"net/netip"

	"tunneldirector/affinity"
)

// A Packet is what a decision depends on, as an operator would describe it.
type Packet struct {
	Interface string         // it comes in by; "" in Lookup: the first with the role that fits
	VLAN      uint16         // 802.1Q tag, 0: none
	Tenant    string         // in Lookup, if Interface is "": of the subnet side
	OtherMAC  bool           // not addressed to our MAC
	From      affinity.Index // the real server whose MAC it came from; 0: none
	Src, Dst  netip.Addr
	Proto     uint8
	SrcPort   uint16
	DstPort   uint16
	Fragment  Fragment
	Hops      uint8 // TTL or hop limit
	Size      int   // bytes of IP; 0: a small one
	DF        bool  // IPv4 don't fragment; IPv6 never fragments on the way
	ICMPType  uint8
	ICMPCode  uint8
	// Inner is the packet an ICMP error is about: sent by us (Src is a VIP) to the endpoint Inner.Dst.
	Inner *Packet
}

// A Fragment says which part of a datagram a packet is.
type Fragment uint8

// The parts. Only Whole and First carry ports.
const (
	Whole Fragment = iota
	First
	Later
)

// HasPorts tells whether ports can be read from p.
func (p *Packet) HasPorts() bool { return affinity.HasPorts(p.Proto) && p.Fragment != Later }

// Side is which of the two tables decided.
type Side uint8

// The sides.
const (
	NoSide Side = iota
	TunnelSide
	SubnetSide
)

func (s Side) String() string { return [...]string{"", "tunnel", "subnet"}[s] }

// A Decision is what becomes of a packet.
type Decision struct {
	Side       Side
	RealServer affinity.Index // forwarded to it; 0: not forwarded
	Backup     bool           // because the primary is dead
	Reason     Reason         // None: forwarded
	Service    uint16         // service number, where one was found
	Hashed     bool           // by the ring, not by a pin
	Endpoint   EndpointKey    // the pin that matched, on the tunnel side
	Subnet     SubnetKey      // the prefix that matched, on the subnet side
}
