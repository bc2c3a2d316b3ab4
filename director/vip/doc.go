// Package vip holds addresses on the node: virtual IPs, which it closes by a packet filter of our own that drops whatever the
// data plane did not take, so that they are added after the filter and removed before it; and gateways, which are open.
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
// Where all directors hold every VIP (Held.Silent), it is on lo for both families, and nobody is told of it; routes lead to it.
//
// A gateway, the next hop of target hosts, is a /32 or a /128 on each interface of role subnet, where arp_ignore=1 lets it be
// found, too. An interface that has no IPv4 address of others gets none of ours: with an interface's last address Linux flushes
// its routes and its neighbours, and these are not ours; such a gateway is on lo.
//
// Ours are marked by their protocol (IFA_PROTO, Linux 5.18), VIPs and gateways apart; others' addresses are never touched, and
// one that somebody else has put on the host is refused, and not filtered either: it may be the address by which people log
// in. Routes that name a held address as their source go with it, by the kernel's rule: nobody should write such.
//
// Neighbours are told of what is new at once, after 0.2, 0.5, 1, 2, 5, 10, 20 and 40 s, and every minute while it is held: frames are
// lost, and the holder before may have been told of last. Where another one has held an address as well it begins anew (Held.Again).
//
// # Lifetimes
//
// A member of a cluster holds addresses for a few seconds at a time (Held.Lifetime), and whoever sees that the daemon lives
// calls Renew each second. A daemon that hangs, is stopped or starved loses them without anybody's doing: the kernel takes them
// away. What has gone by that is not brought back by Renew, because another director may hold it by now, and a process that was
// stopped does not know for how long: Renew looks which addresses are there, renews these, and forgets the others. Only a
// Hold, that is a new decision, brings them back; who calls it after a stop had better look first who is alive. Between the
// look and a renewal the process may be stopped as well, and the kernel then makes the address anew whatever the flags of the
// message say: a renewal that took long is looked at again, and an address that is younger than it was is taken back. The
// kernel counts in seconds and looks at most once a second: an address goes up to a second after its time. Its clock stands
// still while a virtual machine is paused, as the daemon's does.
//
// A director that becomes a member, or a lone one again, changes its addresses in place, from for ever to a lifetime and back.
//
// On an interface where real servers are and sites are not, the director must not answer ARP for a VIP: set arp_ignore=1
// there (Check says so). Where all hold the VIPs none must answer for them, nor name them when it asks itself: arp_ignore=1 and
// arp_announce=2 on the tunnel side. Sysctls are checked and explained, never changed.
//
// The package owns its table and the addresses with its marks, in the network namespace of the thread that opened it. All
// methods are called one at a time, from threads in that namespace. It must not know tunnels, pins or real servers, nor decide which
// director holds a VIP.
package vip
