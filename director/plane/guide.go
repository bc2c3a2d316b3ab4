package plane

import (
	"net"

	"tunneldirector/affinity"
)

// A Guide is a Plane that keeps for itself how real servers are reached, and does not ask the kernel for each packet.
type Guide interface {
	// Way is where packets of one family go that are for an incarnation. It may be called from any goroutine.
	Way(i affinity.Index, v6 bool) (Way, error)
}

// A Way is where packets to a real server go.
type Way struct {
	Known     bool // false: they are dropped, for want of a MAC address
	Interface string
	MAC       net.HardwareAddr
}
