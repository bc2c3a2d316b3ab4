// Package ipvs is the data plane on the kernel's own IPVS: the tunnel side is its connection table, filled before the first
// packet comes, and the subnet side is routes over nexthop objects.
//
// # What is in the kernel
//
//	ipvs        a virtual service per VIP and UDP port (and for UDP/500 where a service has ESP or AH); its destinations are
//	            pairs, not real servers (below); one connection entry per endpoint and such port. Client port 0 with NO_CPORT
//	            matches any source port. ESP and AH are looked up under UDP/500 (ip_vs_proto_ah_esp).
//	inject      how entries get there: IPVS synchronisation messages, through a sealed veth, to the kernel's backup daemon
//	route       a nexthop object per pair and family; a /32 or /128 route per pair address over it; a table per tenant: a
//	            blackhole per covering prefix, and a route per subnet over its pair's nexthop object; rules that lead there
//	gate        an nftables table: what IPVS has no notion of (roles of interfaces, sources that lie, protocols of no service,
//	            what goes back where it came from),
//	            the seal of inject, counters by reason, and samples of what is dropped; another one while packets are watched
//
// # Pairs
//
// A pin names a pair of incarnations {primary, backup}. Under method dr an entry's destination is the pair's own address, out
// of Options.Pairs4 or Pairs6, which only the kernel's own lookups (rule: iif lo) find: over the pair's nexthop object. IPVS
// sends to the route's gateway. So one `nexthop replace` re-points all that is pinned to the pair, in both directions, and
// touches no entry. Under tunnel and masq the destination is the address that packets go to, and a death re-sends the pins.
// A pair with nobody alive has a blackhole for a nexthop.
//
// # Generations and graves
//
// The kernel has no call that deletes an entry, and none that reads one back cheaply. But an entry whose destination was
// removed from its service forwards nothing any more, and does not have its timer renewed by packets. Under dr and tunnel the
// destination's port means nothing, so it serves as a label:
//
//   - a generation is the label of all destinations that are in force. A start takes the next one, sends all entries again (which
//     moves them over one by one, without a gap), then removes the destinations of the old one: what was pinned then and is
//     not now, however that came, stops there and then. A repair of a service whose counters do not add up is the same.
//   - a grave is a destination that is made for a batch of deletions: the entries are sent to it with a timeout of a second, it is
//     removed, and they go.
//
// # What it does not do
//
// No protocol but UDP, ESP and AH, the last in IPv4 only; no 802.1Q tags (a VLAN device is an interface like any other); no packets
// seen per pin. What a real server sends back is cut by the gate if the kernel knows its MAC address; behind a router, and under masq,
// the TTL ends it. Fragments are reassembled before they are looked up, so that a first one alone goes
// nowhere. Under tunnel the outer header's TTL and DF are the kernel's choice, and what is too big and may be fragmented is. Unknown endpoints are
// dropped, or scheduled packet by packet (mh, one-packet), so that nothing learned beats a later pin; unknown ESP is always
// dropped. Under masq a pin needs the endpoint's port: the first packet would write one into an entry for any.
//
// An entry that was moved may linger for a minute where it was sent from, if a packet held it at that moment. It matches nothing while
// the new one stands. So the grave of a pin for any port stands for longer; one for a port must not (it would stand before a later pin for any),
// and there a tunnel that was removed at the wrong microsecond is found by the proof, a minute or two later.
//
// The package owns what carries its marks (route protocol, nexthop ids, the services' idle timeout, table names) in the network
// namespace of the thread that opened it. It must not know tunnels, health, or other planes.
package ipvs
