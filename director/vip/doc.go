// Package vip holds the virtual IPs on the node and closes them: a packet filter of our own that drops whatever the data
// plane did not take, and the addresses themselves, added after the filter and removed before it.
//
// # The filter
//
// One nftables table (package ruleset), inet tunneldirector, that outlives the daemon and works with no data plane at all:
//
//   - what reaches the node's own input for a VIP is dropped and counted, ICMP echo requests and neighbour discovery
//     excepted. The hook's priority is 110, after IPVS's hooks on LOCAL_IN (98 and 99), so that only what no plane took
//     gets there;
//   - what would be routed on to a VIP that is not (yet, any more) local is dropped and counted;
//   - what comes in by an interface of role subnet for a tenant's covering prefix and would be routed on is dropped and
//     counted: with the plane detached a customer's plaintext must not leave by the default route. Where the kernel's own
//     routing is the data plane (ipvs), what leaves by an interface towards real servers (Wanted.Routed) passes. That is
//     still closed: there each cover is a blackhole of the plane's own tables, so that only a subnet's own route leads out
//     of it; and should these tables be lost, the default route is closed unless it leaves by such an interface, too.
//
// # The addresses
//
// An IPv4 VIP is a /32 on lo (or on Config.Device): Linux answers ARP for any local address on any interface, unless
// arp_ignore says otherwise. IPv6 has no such thing (a neighbour solicitation is answered only for the addresses of the
// interface it came by), so that an IPv6 VIP is a /128 on each interface of role tunnel: without duplicate address
// detection, without a prefix route, and deprecated, so that the node never chooses it as the source of its own traffic.
// Ours are marked by their protocol (IFA_PROTO, Linux 5.18); others' addresses are never touched, and a VIP that somebody
// else has put on the host is refused, and not filtered either: it may be the address by which people log in.
//
// On an interface where real servers are and sites are not, the director must not answer ARP for a VIP: set arp_ignore=1
// there (Check says so). Sysctls are checked and explained, never changed.
//
// The package owns its table and the addresses with its mark, in the network namespace of the thread that opened it. All
// methods are called from one goroutine in that namespace. It must not know tunnels, pins or real servers, nor decide which
// director holds a VIP.
package vip
