// Package inject puts connection entries into the kernel's IPVS from user space.
//
// The kernel has no call for that, but it has a synchronisation protocol by which one director tells another one its
// connections (net/netfilter/ipvs/ip_vs_sync.c): UDP datagrams to a multicast group, taken by a thread of the kernel, its
// "backup daemon". A Link is a private cable to that thread: a veth pair whose far end is in a network namespace that has no
// name and nothing else in it. The protocol has no authentication, so whoever can put a datagram into the cable can
// redirect any tunnel. The far end cannot be reached; the near end is sealed by the caller (Options.Seal).
//
//	Send ── UDP ──▶ far end ══ veth ══▶ td-sync ─┬─▶ the daemon's socket ──▶ connection table
//	                                            └─▶ the Link's own socket: what arrived, counted
//
// The protocol has no acknowledgement either. A Link makes one of three observations: the datagrams that its own
// socket, in the same group, has received; the daemon's drop counter; and the daemon's receive queue, in which an empty
// message comes last. When that one has left the queue, the daemon has dealt with all before it.
//
// The goroutine that calls a Link's methods owns it. The package must not know pins, pairs, services or timeouts: it
// sends what it is given.
package inject
