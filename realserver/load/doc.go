// Package load measures how near a terminator is to its limit, and gives its own sockets and devices more room.
//
// The figure is the highest of its parts. Each part is a share of its own limit, 1000 ‰ being the limit:
//
//	cpu             the busiest thread, where one thread does the work: its time on a core, plus the time that it was kept from it
//	                by other threads, interrupts and the hypervisor, against the ceiling (80 % of a core). Else all threads, running or
//	                waiting for a core, against the ceiling of all cores that they may use
//	cores           for a terminator in the kernel, which has no threads to look at: all cores, against the ceiling
//	softirq         the core that spends most on interrupts, against the ceiling: a packet may come in at any core
//	steal           what the hypervisor takes from all cores, against what the ceiling leaves free
//	receive drops   datagrams a second that the worst of its sockets dropped, against 5 a second
//	receive queue   how full the worst of its sockets' receive buffers is, on average, against half
//	tun drops       packets a second that the worst of its TUN devices dropped for want of a reader, against 5 a second
//	tunnels         established, against the capacity
//
// Rates are over the last five seconds, of which those before the first sample count as idle. So a single-threaded terminator is
// full by its thread before it loses packets, and by its losses if all else deceived. A terminator that is full stays so until it was
// below OpenAt for half a minute. Without a ceiling cpu, cores, softirq and steal are no parts: the cores are for others, too.
//
// Not measured is what leaves no trace in these: a NIC that drops, a CPU quota of a control group. Other devices than TUN drop packets
// for a site that is not up, which is no load; their drops do not count.
//
// A Meter and a Room belong to one goroutine each. They know nothing of tunnels, health or directors.
package load
