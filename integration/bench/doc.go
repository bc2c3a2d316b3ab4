// Program bench measures the director and holds each figure against one of the same run: a floor (the least work that
// the task needs, such as reading one random line of memory) or a peer (another way to do it, or the same at another
// size). It prints a table for people and writes build/bench.json for programs.
//
//	control plane  the director's program on a lab: batch, single pushes, start, the death of a real server, memory
//	data plane     the benchmarks of director/plane/xdp, run from here
//	wire           packets over veth on one core, against kernel routing and the bare redirect
//
// What is compared runs in turns, and figures are medians. It owns the namespaces, directories and programs that it
// makes, and removes them. It must not know the director's inside: it sees HTTP, logs and /proc. The wire drives
// director/plane/xdp itself. It needs root.
package main
