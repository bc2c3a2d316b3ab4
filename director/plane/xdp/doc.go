// Package xdp is the data plane that needs nothing but a kernel with XDP (Linux 6.1 or later): an eBPF program on each
// interface, its tables in BPF maps.
//
// Everything that forwards is pinned in bpffs and outlives the daemon: maps, and links that hold the program to the
// interfaces. Open adopts what it finds there and swaps the program atomically; Close lets go and changes nothing;
// Uninstall takes all away. The maps' directory is named after the layout and the tables' sizes; where Open finds
// another, it fills its own beside, and the first Replace swaps the links over and removes the old one.
//
// Who owns what: the goroutine that calls Apply, Replace and SetAlive owns all maps except td_links, td_ifaces and
// td_devices, in which the goroutine in Run keeps how real servers and interfaces are reached, and the counters, which are
// the program's. Both write td_vlans and the links to interfaces, because an interface may be made anew at any time: under
// the lock of ports.
//
// A pin's last-seen is written by the program; Apply and Replace carry it over when they rewrite a pin. What the program
// writes between their reading and their writing is lost, and made good by the pin's next packet, since the older time is
// then due again.
//
// Samples of packets are written by the program into td_samples, which has one reader at a time; td_watch is written by who calls
// Watch, under a lock.
//
// The package does not know tunnels, groups, disks or peers, and chooses nothing.
package xdp
