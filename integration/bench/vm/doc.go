// Package vm measures the plane ipvs on a kernel that has IPVS, in the virtual machine of integration/vm: forwarding per packet
// beside plain routing, stock IPVS and plane xdp, pins a second, memory a pin, and what the death of a real server costs. The
// processor is emulated, so that only ratios of one run mean something: what is compared takes turns.
//
// It drives the planes by their own interface. It runs as a test, TestBench, when BENCH is set, prints a table, and leaves it
// in OUT.
package vm
