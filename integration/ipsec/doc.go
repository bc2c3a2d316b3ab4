// Package ipsec holds the terminators of IPsec against the daemons that operators run: what the drivers below
// realserver/terminator see of them, and how soon a tunnel is back that a successor adopts, or that waits for its site.
//
// There is no director: the router hands the virtual IP to the real server that it is told to, as a pin would. Where the kernel has
// no IPsec, strongSwan carries the packets itself, in UDP; native ESP takes the virtual machine of integration/vm.
package ipsec
