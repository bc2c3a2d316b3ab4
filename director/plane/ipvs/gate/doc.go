// Package gate is the packet filter around IPVS: one nftables table, inet tunneldirector-ipvs, that outlives the daemon.
//
// IPVS looks at packets on the node's own input (priorities 98 and 99 of LOCAL_IN, ip_vs_ops4 in ip_vs_core.c), and knows
// nothing of interfaces' roles, of sources that lie, or of services. What it does not take it leaves to the node's own stack,
// and what it refuses it answers. So around it:
//
//	input, 90      to a VIP: role of the interface, source, kind of ICMP, service, and what has no port where pins are by
//	               port only: rules 4 to 8 of director/plane/doc.go. What passes goes on to IPVS
//	input, 105     to a VIP and not taken by IPVS: dropped, as of an unknown endpoint; ICMP echo and neighbour discovery
//	               excepted. The filter of package director/vip, at 110, does the same again, whatever the plane
//	forward, 120   from subnet interfaces to real servers' interfaces: the source (rule 12), and a count of what was forwarded
//	postrouting    -300: what goes back to the real server that has sent it (rule 15)
//	output, 0      the seal: nothing leaves by the interface through which entries are sent to IPVS. What a local process
//	               sends to a multicast group there would be looped back to IPVS's daemon, which believes everyone.
//	               IPVS's "port unreachable" about unknown endpoints is dropped: the plane is silent to those. So are
//	               redirects on the subnet side: a target host that has learned to send past the director would not
//	               follow it from a dead real server to its backup (IPv6 has no setting against them)
//
// Who sent a packet is told by the MAC address of its frame, and who would get it by the next hop of its route: a set holds the pairs that
// go together, of real servers that are neighbours. Where both are wanted, behind IPVS and behind a tunnel device, the outer header
// stands in the frame's place. So the last 4 bytes of the MAC address are noted as the packet's priority (skb->priority), before IPVS and in
// forward, on packets of these senders alone; behind IPVS they are compared, and the priority is 0 again when the packet leaves by Ethernet.
// Neighbours that have these 4 bytes in common, or such as others use for priorities, are not in the set, nor is one whose MAC address is
// not known: nothing of theirs is cut, and the TTL ends the loop. The set is compared with the neighbour table every 2 seconds, and
// when the kernel tells of another MAC address. Who sorts packets by priority before routing, or marks them so, hides them from this rule.
// What is cut was counted as forwarded before. Without a daemon the set stays as it was.
//
// At priority 90 of input IPv4 fragments are whole again; IPv6 ones are since IPVS asks for that with its first IPv6 service.
//
// The counters are the kernel's own, since the table was made. That of unknown endpoints is too low where such endpoints
// send to a service's UDP ports: there what is counted is IPVS's answers, which the kernel limits (net.ipv4.icmp_ratelimit).
// Packets from 0.0.0.0, ::1, multicast and the node's own IPv4 addresses die before, in the kernel's own tests of sources, and
// are not counted here.
//
// Some of what is counted by a reason is shown, too: a Log reads the first bytes of at most 20 packets a second of each reason,
// which the rules log to NFLOG group 29796 before they drop. The seal and redirects drop nothing of a tunnel, and are only
// counted. While somebody watches there is a second table, inet tunneldirector-watch:
//
//	prerouting, -300   packets that fit what is watched, of both sides, before they are routed; at most 200 a second. The
//	                   interfaces that it looks at are elements of a set that the kernel takes out when the time is over
//
// The package owns the tables, in the network namespace of the thread that opened it. It must not know pins, nor set up IPVS.
package gate
