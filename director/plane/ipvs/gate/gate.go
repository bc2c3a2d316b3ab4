package gate

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// Protocols that IPVS forwards.
const (
	protoUDP = 17
	protoESP = 50
	protoAH  = 51
)

// Wanted is all that the gate is to let through and to shut out. It is always given whole; lists may repeat themselves.
type Wanted struct {
	VIPs        []netip.Addr // of all services
	Own         []netip.Addr // the director's addresses: like VIPs they are nobody's source
	Tunnel      []string     // interfaces by which sites send
	Subnet      []string     // interfaces by which target hosts send
	RealServers []string     // interfaces by which packets to real servers leave
	Services    []Allowed
	NoPort      []Source // ESP and AH of these are dropped: the endpoints have pins by port only
	Neighbours  []Neighbour
}

// Allowed is what a service takes at a VIP: UDP with destination ports Lo to Hi, or ESP or AH, without ports. Each port is an
// element of a set (and a virtual service of IPVS): not for long ranges.
type Allowed struct {
	VIP    netip.Addr
	Proto  uint8
	Lo, Hi uint16
}

// A Source is an address that sends to a VIP.
type Source struct{ VIP, Addr netip.Addr }

// A Neighbour is a real server on a segment of the director's own: what its MAC address sent does not go back to its address. Of an
// address behind a router there may be one all the same; it is never the next hop.
type Neighbour struct {
	Addr netip.Addr
	MAC  [6]byte
}

// mark is by what a packet is known to come from n: the end of its MAC address.
func (n Neighbour) mark() []byte { return slices.Clone(n.MAC[2:]) }

// commonPriorities are values that the kernel (by a packet's TOS) and programs (SO_PRIORITY) give to packets, and classes of the
// first few queueing disciplines.
const commonPriorities = 1 << 16

// Told are those of list whose MAC addresses the rules can tell by their marks, which are shorter: of two neighbours with the same mark
// neither is among them, and nothing is cut.
func Told(list []Neighbour) (out []Neighbour) {
	macs := map[string][6]byte{}
	same := map[string]bool{}
	for _, n := range list {
		mark := string(n.mark())
		if mac, taken := macs[mark]; taken && mac != n.MAC || binary.NativeEndian.Uint32(n.mark()) < commonPriorities {
			same[mark] = true
		}
		macs[mark] = n.MAC
	}
	for _, n := range list {
		if !same[string(n.mark())] {
			out = append(out, n)
		}
	}
	return out
}

const maxInterfaceName = 15 // IFNAMSIZ less its zero byte

// validate refuses what cannot be meant, with all faults at once.
func (w Wanted) validate() error {
	var errs []error
	vips := map[netip.Addr]bool{}
	for _, a := range w.VIPs {
		vips[a] = true
	}
	for _, a := range slices.Concat(w.VIPs, w.Own) {
		if !a.IsValid() || a.Is4In6() || a.Zone() != "" {
			errs = append(errs, fmt.Errorf("address %v: not a plain IPv4 or IPv6 address", a))
		}
	}
	for _, name := range slices.Concat(w.Tunnel, w.Subnet, w.RealServers) {
		if !validName(name) {
			errs = append(errs, fmt.Errorf("interface %q: not an interface name (1 to %d bytes)", name, maxInterfaceName))
		}
	}
	for _, s := range w.Services {
		switch {
		case !vips[s.VIP]:
			errs = append(errs, fmt.Errorf("service at %v: no such VIP", s.VIP))
		case s.Proto != protoUDP && s.Proto != protoESP && s.Proto != protoAH:
			errs = append(errs, fmt.Errorf("service at %v: protocol %d: IPVS forwards UDP, ESP and AH", s.VIP, s.Proto))
		case s.Lo > s.Hi, s.Proto != protoUDP && s.Hi != 0:
			errs = append(errs, fmt.Errorf("service at %v: protocol %d: ports %d to %d", s.VIP, s.Proto, s.Lo, s.Hi))
		}
	}
	for _, s := range w.NoPort {
		if !vips[s.VIP] || s.VIP.Is4() != s.Addr.Is4() || s.Addr.Is4In6() {
			errs = append(errs, fmt.Errorf("source %v: does not send to VIP %v", s.Addr, s.VIP))
		}
	}
	for _, n := range w.Neighbours {
		if !n.Addr.IsValid() || n.Addr.Is4In6() || n.Addr.Zone() != "" || n.MAC == [6]byte{} {
			errs = append(errs, fmt.Errorf("neighbour %v at %x: want a plain IPv4 or IPv6 address, and a MAC address", n.Addr, n.MAC))
		}
	}
	return errors.Join(errs...)
}

func validName(ifname string) bool { return ifname != "" && len(ifname) <= maxInterfaceName }
