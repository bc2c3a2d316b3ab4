package inject

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"tunneldirector/affinity"
)

// ErrForeign is wrapped by Open where a synchronisation daemon runs that is not ours: the kernel has one of each kind in a
// network namespace, and one that tells other directors our entries, or takes theirs, would undo what is injected.
var ErrForeign = errors.New("another program's IPVS synchronisation daemon is running")

// A Conn is a connection entry of UDP; ESP and AH follow the one of VIP port 500 (ip_vs_proto_ah_esp.c).
//
// What is there already decides what becomes of it. No entry of these ports: a new one. One with the same destination:
// its timer is set anew, and nothing else, not even the method. One with another destination: the new one takes its place at
// once. An exact entry whose source port has none of its own finds the one of port 0, and either of the latter two happens
// to that. So where both are wanted, send the exact one first.
//
// An entry whose place is taken is gone within milliseconds, but for a few of 100,000: if the kernel's timer runs on another
// CPU while the daemon still holds the entry, it stays for LingerTime behind the new one (ip_vs_conn_expire): it matches
// nothing and is renewed by nothing, but is counted by its destination, and would be back if the new one went first. So
// an entry that is to end the way of another one must live longer than that.
type Conn struct {
	Client netip.AddrPort // port 0: any source port (flag NO_CPORT). Under masq the first packet's port fills it in for good
	VIP    netip.AddrPort
	Dest   netip.AddrPort // bound to the service's destination of this address and port where there is one; Method then is its
	Method affinity.Method
	// Timeout is in whole seconds, at least one. The first packet of UDP replaces it by the kernel's UDP timeout; ESP and AH
	// do not.
	Timeout time.Duration
}

// Check tells what is wrong with c.
func (c Conn) Check() error {
	switch {
	case !c.Client.IsValid() || !c.VIP.IsValid() || !c.Dest.IsValid():
		return fmt.Errorf("inject %v to %v: an address is missing", c.Client, c.VIP)
	case c.Client.Addr().BitLen() != c.VIP.Addr().BitLen() || c.VIP.Addr().BitLen() != c.Dest.Addr().BitLen():
		return fmt.Errorf("inject %v to %v at %v: the protocol has one family for all three addresses", c.Client, c.VIP, c.Dest)
	case c.Timeout < time.Second || c.Timeout%time.Second != 0 || c.Timeout > maxTimeout:
		return fmt.Errorf("inject %v to %v: timeout %v is not 1 s to %v in whole seconds", c.Client, c.VIP, c.Timeout, maxTimeout)
	case c.Method > affinity.Masq:
		return fmt.Errorf("inject %v to %v: forwarding method %d is not known", c.Client, c.VIP, c.Method)
	}
	return nil
}

// LingerTime is how long an entry may stay behind the one that took its place.
const LingerTime = time.Minute

// maxTimeout is far below what the kernel can hold in jiffies, and far above what anybody wants.
const maxTimeout = 365 * 24 * time.Hour
