package terminator

import "tunneldirector/director/agent"

// Room is where a look puts its tunnels: the memory of the look before, whose list is of no use any more. Most looks have about as many, so
// that a list which appending made a quarter larger than that makes way for one that fits.
func Room(last []agent.Tunnel) []agent.Tunnel {
	if n := len(last); cap(last) > n+n/8+8 {
		return make([]agent.Tunnel, 0, n+n/32)
	}
	return last[:0]
}
