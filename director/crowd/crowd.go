// Package crowd bounds how many are served at once. Anybody may connect to a port: whoever has not proved yet who he is gets a few
// places, so that others find one.
package crowd

import (
	"net"
	"net/netip"
	"sync"
)

// A Room has places, of which each guest gets a few at most. All may use it at once.
type Room struct {
	All, Each int // places in all, and of one guest

	mu     sync.Mutex // guards what follows
	taken  int
	guests map[string]int
}

// Enter takes a place, if there is one; then Leave has to follow.
func (r *Room) Enter(guest string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.taken == r.All || r.guests[guest] == r.Each {
		return false
	}
	if r.guests == nil {
		r.guests = map[string]int{}
	}
	r.taken++
	r.guests[guest]++
	return true
}

// Leave gives a place back.
func (r *Room) Leave(guest string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.taken--
	if r.guests[guest]--; r.guests[guest] == 0 {
		delete(r.guests, guest)
	}
}

// From is who a connection that has proved nothing is of. Who has one address of IPv6 has all of its /64.
func From(c net.Conn) string {
	from, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return c.RemoteAddr().String()
	}
	a := from.Addr().Unmap()
	if a.Is6() {
		return netip.PrefixFrom(a, 64).Masked().String()
	}
	return a.String()
}
