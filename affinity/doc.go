// Package affinity is the table that says which real server owns a tunnel: services, tunnels, groups, pins and real
// servers, and the claims that tunnels lay on endpoints and subnets.
//
// A Table is a value without I/O. Clone is O(1) and gives an independent copy (copy on write), so that one writer can
// build the next state, throw it away when the disk or a check refuses it, and publish it as an immutable snapshot when
// all is well. A published Table is never written again; any number of goroutines may read it.
//
// Claims are derived, never stored: an endpoint or a subnet belongs to the oldest record that wants it (creation stamp,
// then id), whatever the order in which the records arrived. The others stay, and are contested.
//
// The package does not know disks, kernels, clocks, peers or HTTP.
package affinity
