// Package guest holds the tests that take a kernel with IPVS and IPsec, and the tunnel software that operators run: the
// director's program in a lab of network namespaces, on the planes ipvs and xdp, inside a virtual machine.
//
// Outside of one they are skipped: they want a kernel of their own, with its modules, and daemons under their usual paths.
// What a test measures it logs in a line of its own, to be read off the output:
//
//	MEASURED <what> <value> <unit> <settings>
//
// TUNNELDIRECTOR_VM says that it is the virtual machine, DIRECTOR where the program is, SOAK asks for the long tests too.
package guest
