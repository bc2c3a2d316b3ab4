// Package lab builds a network out of namespaces, with real WireGuard tunnels in it, for tests and demonstrations.
//
//	site 1..n ──[sites 203.0.113.0/24]── router ──[outer 10.127.0.0/24]── director.sites
//	                                       │                               director.rs ────┐
//	                                       └──────[rs 198.51.100.0/24]─────────────────────┴── real server 1..m (dr)
//	                                              [inner 192.0.2.128/25]── director.inner, target, real servers (inner)
//
// Each bracket is a bridge in a namespace of its own, the switch; each line into it is a veth pair, so that every
// interface of a director is one end of a veth pair, on which native XDP runs. IPv6 runs beside IPv4 over the same wires.
//
// Sites reach the virtual IP by way of the router, which hands it to the director. Real servers hold the virtual IP on
// lo, mute to ARP, and answer through the router, so that replies never touch the director (direct routing). The target
// sends what is for a subnet behind a tunnel to the director's inner address; what comes out of a tunnel goes from the
// real server straight to the target. The lab puts nothing into the director's namespace that forwards: that is for the
// director under test, or for a Standin.
//
// There may be several directors, which then have a network of their own, too (mgmt 10.127.1.0/24). The router asks for the virtual
// IP's MAC address, and the target for that of a gateway (host 1 of the inner network): both belong to whichever director holds
// them. Block cuts what one machine sends to others.
//
// WireGuard runs inside this process, its sockets and TUN devices in the namespaces; real servers share one key and know
// every site. They count what they decrypt and what they send back, per site (RealServer.Counts).
//
// A bare lab has no WireGuard: it is for tunnel software that whoever builds it starts with Command, and for tunnels of the
// kernel. Its last sites may sit behind a NAT box, in private addresses; its real servers may take packets out of IPIP.
//
// A Lab owns its namespaces, processes and the directory under Dir. Names carry the process's id; a lock in the
// directory tells Sweep, which New calls too, whether the owner still lives. Use needs root. The package does not know
// the director's code: it does not import any of it.
package lab
