// Package drills is a world of drills on one machine: several directors' programs, an agent on each real server, and real WireGuard
// tunnels from sites to a target, in network namespaces (integration/lab).
//
// Faults befall processes, cables and disks of the lab, from outside: nothing in the programs under test makes them. Each is undone by the
// World itself when its time is over, and all of them by Close. What a fault is here, where that is not what it is on a live machine:
//
//	terminator-crash, -hang   WireGuard runs in this process: its sockets, sessions and device go, or what it reads and sends waits
//	disk-full                 the director's file system, one of its own in memory, is made as small as what is in it
//	nms-outage                the socket of the director's API, by which tunnels are pushed here, is moved away
//	nms-empty                 who pushed the tunnels sends an empty set; were it taken, undoing it pushes them all again
//
// A World owns the lab. What it tells of its state it has from the directors' API, and from their kernels who holds an address.
package drills
