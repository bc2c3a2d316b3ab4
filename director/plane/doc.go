package plane

// The packet's way: every plane decides in this order. mem is written straight from this text, and planetest holds the
// others against mem.
//
// Parsing, once for all:
//
//	1  dst MAC is not the interface's: PassMAC.
//	2  at most one 802.1Q tag; what is then not IPv4 or IPv6: PassNotIP.
//	3  a header cut short, of the wrong version, or longer than the frame: DropMalformed. IPv6 extension headers
//	   (hop-by-hop, routing, destination options, fragment; at most 6) are walked over; AH is a payload.
//	   IPv4 and IPv6 fragments: only Whole and First have ports. An IPv6 "atomic" fragment is Whole.
//
// Tunnel side, if dst is a VIP:
//
//	4  the interface lacks RoleTunnel: DropRole.
//	5  source is a VIP, an own address, loopback, unspecified, multicast or 240.0.0.0/4: DropSource.
//	6  ICMP (protocol 1 in IPv4, 58 in IPv6): echo request, neighbour solicitation and advertisement, if Whole: PassControl.
//	   An error (IPv4 types 3, 11, 12; IPv6 1 to 4), if Whole, whose inner packet was sent from this VIP: goes the way of
//	   the inner packet's endpoint: protocol and fragment part are the inner packet's, the service's port is its source
//	   port, the endpoint is its destination address and port. All else: DropICMP.
//	7  the service: the lowest numbered one with this VIP and a Match for protocol and port; a packet of UDP or TCP
//	   without ports matches by protocol alone. None: DropNoService.
//	8  the pin: {VIP, source, source port} if the packet has ports, else or if there is none {VIP, source, 0}.
//	   A Target with Drop == DropNoPort says "has pins by port only": with ports in the packet it is as if absent, without
//	   it is the decision. Any other Drop is the decision.
//	9  no pin: a packet of UDP or TCP without ports where more than one service matches, and any of these has a Ring:
//	   DropAmbiguous. An empty Ring: DropUnknown. Else the ring's target, by HashAddr of the endpoint's address.
//
// Subnet side, if dst is no VIP:
//
//	10 dst is in Own, or the interface lacks RoleSubnet, or the tag names no tenant there: PassLocal.
//	11 longest match over the tenant's subnets and covers; an entry for a prefix beats a cover of the same prefix.
//	   None: PassLocal.
//	12 the source as in 5: DropSource. A cover: DropCover. A Target's Drop is the decision.
//
// Both:
//
//	13 primary, if alive; else backup, if there is one and it is alive; else DropDead. An index that Config does not know is
//	   dead.
//	14 TTL or hop limit is 0 or 1: DropHops.
//	15 the frame's source MAC is the real server's: DropLoop. Under tunnel a real server behind a router has none here: the
//	   router's says nothing, because sites' packets may come by it, too, and what comes back by it is ended by rule 14. Under
//	   dr the MAC that packets would go to counts, whosever it is. (mem knows no router.)
//	16 the real server's MAC is not known: DropNoNeighbour. (mem knows no MAC: its real servers always have one.)
//	   Under tunnel a real server without an address of the packet's family: DropNoNeighbour too.
//	17 IP length (plus 20 or 40 under tunnel) is over the path's MTU: DropTooBig, and the sender is told by an ICMP error
//	   (rate-limited) if the packet is IPv6 or has DF set.
//	18 forwarded: TTL or hop limit less one, MAC addresses rewritten, IPIP header put on under tunnel; the tag is taken off,
//	   and on the subnet side the real server's tag for this tenant, if it declares one, is put on.
//
// An outer packet of IPIP has the inner one's TOS and, in IPv4, DF set; its TTL is 64. Its source is an address of the
// director on the interface that it leaves by.
