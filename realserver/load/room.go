package load

import (
	"net/netip"

	"tunneldirector/realserver/space"
)

// A Room is what a terminator's own sockets and devices were given more of than they had, and what they had. Nothing of the host's
// is changed for it. It can be kept as JSON, so that another run of the agent can Lower it.
type Room struct {
	Space   space.Space    `json:"space,omitempty"`
	Sockets []RaisedSocket `json:"sockets,omitempty"`
	Devices []RaisedDevice `json:"devices,omitempty"`

	// Keep puts a Room on disk. Raise calls it before it changes something, with what that is and what it will be: an agent that is
	// killed in between leaves nothing raised of which nobody knows what it was. Without it done, nothing is raised. Nil: nobody does.
	Keep func(Room) error `json:"-"`
}

// Want is how much room there should be, at least. What has more keeps it; 0 asks for nothing.
type Want struct {
	ReceiveBuffer int // bytes of each UDP socket, as SO_RCVBUF is asked for; the kernel books the double
	Queue         int // packets of each TUN device (txqueuelen)
}

// A RaisedSocket is a socket whose receive buffer was raised, in bytes as the kernel books them.
type RaisedSocket struct {
	Cookie uint64         `json:"cookie"` // the kernel's, of this socket alone
	Local  netip.AddrPort `json:"local"`
	Was    int            `json:"was"`
	From   int            `json:"from,omitempty"` // what it was before the last time that it was raised
	Is     int            `json:"is"`
}

// A RaisedDevice is a TUN device whose queue was made longer, in packets.
type RaisedDevice struct {
	Name  string `json:"name"`
	Index int    `json:"index"`
	Was   int    `json:"was"`
	From  int    `json:"from,omitempty"` // as a socket's
	Is    int    `json:"is"`
}

func (r *Room) keep() error {
	if r.Keep == nil {
		return nil
	}
	return r.Keep(*r)
}
