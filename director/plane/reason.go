package plane

import "fmt"

// A Reason says why a packet was not forwarded. The numbers are shared with the eBPF program and kept in pinned maps:
// add at the end, never renumber.
type Reason uint8

// Reasons of drops, then (from PassNotIP on) reasons for which a packet is left to the director's own stack.
const (
	None            Reason = 0
	DropNoService   Reason = 1  // to a VIP, but its protocol or port belongs to no service there
	DropUnknown     Reason = 2  // no pin for the endpoint, and the service drops unknown ones
	DropNoPort      Reason = 3  // the endpoint has pins by port only, and the packet carries no port
	DropUnplaced    Reason = 4  // the group has no real server (no room)
	DropContested   Reason = 5  // two records want the key, and the holder has no pin of its own
	DropDead        Reason = 6  // primary and backup are dead
	DropCover       Reason = 7  // inside a tenant's covering prefix, but no tunnel's subnet
	DropLoop        Reason = 8  // it came from the real server that it would go to
	DropHops        Reason = 9  // TTL or hop limit used up
	DropSource      Reason = 10 // source is a VIP, an own address, loopback, unspecified or multicast
	DropTooBig      Reason = 11 // does not fit the path by IPIP; the sender was told where DF allowed it
	DropNoNeighbour Reason = 12 // the real server's MAC address is not known
	DropMalformed   Reason = 13 // cut short, or headers that contradict each other
	DropAmbiguous   Reason = 14 // a later fragment from an unknown endpoint, where several hashing services differ
	DropICMP        Reason = 15 // ICMP to a VIP that is neither echo, neighbour discovery nor an error about a tunnel
	DropRole        Reason = 16 // to a VIP, through an interface that has not the role tunnel

	PassNotIP   Reason = 32 // not IPv4 or IPv6 (ARP ...)
	PassMAC     Reason = 33 // not to our MAC address
	PassLocal   Reason = 34 // to no VIP and no subnet we know, or to an address of our own
	PassControl Reason = 35 // ICMP echo request or neighbour discovery to a VIP
)

// Drops tells whether r is the reason of a drop, rather than of leaving the packet to the stack.
func (r Reason) Drops() bool { return r != None && r < PassNotIP }

var reasonWords = map[Reason]string{
	None: "forwarded", DropNoService: "no-service", DropUnknown: "unknown-endpoint", DropNoPort: "no-port",
	DropUnplaced: "unplaced", DropContested: "contested", DropDead: "both-dead", DropCover: "no-tunnel-in-cover",
	DropLoop: "loop", DropHops: "hop-limit", DropSource: "bad-source", DropTooBig: "too-big",
	DropNoNeighbour: "no-neighbour", DropMalformed: "malformed", DropAmbiguous: "ambiguous-fragment", DropICMP: "icmp",
	PassNotIP: "not-ip", PassMAC: "other-mac", PassLocal: "local", PassControl: "control", DropRole: "no-role",
}

func (r Reason) String() string {
	if w, ok := reasonWords[r]; ok {
		return w
	}
	return fmt.Sprintf("reason-%d", uint8(r))
}
