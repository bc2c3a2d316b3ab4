package crowd

import (
	"net"
	"testing"
)

func TestRoom(t *testing.T) {
	r := Room{All: 3, Each: 2}
	for _, step := range []struct {
		name, guest string
		leaves, in  bool
	}{
		{"the first one", "a", false, true},
		{"his second place is his last", "a", false, true},
		{"a third is not his", "a", false, false},
		{"another one takes the room's last", "b", false, true},
		{"a third guest finds none", "c", false, false},
		{"one leaves, and he gets that", "a", true, false},
		{"he is in", "c", false, true},
		{"and it is full again", "b", false, false},
	} {
		if step.leaves {
			r.Leave(step.guest)
		} else if in := r.Enter(step.guest); in != step.in {
			t.Errorf("%s: is in: %t", step.name, in)
		}
	}
	for _, guest := range []string{"a", "b", "c"} {
		r.Leave(guest)
	}
	if r.taken != 0 || len(r.guests) != 0 {
		t.Errorf("all have left, and %d places are taken, by %v", r.taken, r.guests)
	}
}

func TestFrom(t *testing.T) {
	for _, tt := range []struct{ name, address, want string }{
		{"IPv4", "192.0.2.1:7", "192.0.2.1"},
		{"IPv4 at a socket of both families", "[::ffff:192.0.2.1]:7", "192.0.2.1"},
		{"IPv6 is its network", "[2001:db8:0:1:2::3]:7", "2001:db8:0:1::/64"},
		{"of a link, whichever that is", "[fe80::1%eth0]:7", "fe80::/64"},
		{"no address", "@", "@"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := From(conn{from: tt.address}); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// A conn is from an address, and nothing else.
type conn struct {
	net.Conn
	from string
}

func (c conn) RemoteAddr() net.Addr { return addr(c.from) }

type addr string

func (a addr) Network() string { return "tcp" }
func (a addr) String() string  { return string(a) }
