// Package integration holds the tests over the whole: the director's program in a lab of network namespaces, real
// WireGuard tunnels, counters at the real servers; and the rules of who may import whom.
package integration
