package fault

import (
	"errors"
	"net/netip"
)

// A Cut loses packets of this machine, but for those it sends to itself. It needs nftables, and ends by itself in the kernel when its
// time is over, also if nobody is left who could undo it.
type Cut struct {
	Spaces []string       `json:"spaces,omitempty"` // network namespaces, by name or path; "" is the process's own; none: that alone
	All    bool           `json:"all,omitempty"`    // whatever comes and goes, ARP too
	To     []netip.Prefix `json:"to,omitempty"`     // what comes for these addresses, before anything else here sees it
	Peers  []netip.Prefix `json:"peers,omitempty"`  // what comes from these addresses, and what goes to them
}

// HostLoss cuts network namespaces off: nothing comes, nothing goes.
func HostLoss(spaces ...string) *Cut { return &Cut{Spaces: spaces, All: true} }

// LinkCut loses what comes for some addresses of a network namespace, as if it were lost on its way here.
func LinkCut(space string, addrs ...netip.Addr) *Cut {
	return &Cut{Spaces: []string{space}, To: hosts(addrs)}
}

// Partition lets nothing pass between this machine and others.
func Partition(others ...netip.Addr) *Cut { return &Cut{Peers: hosts(others)} }

// Name is an Effect's.
func (*Cut) Name() string { return "cut" }

func hosts(addrs []netip.Addr) (out []netip.Prefix) {
	for _, a := range addrs {
		a = a.Unmap().WithZone("")
		out = append(out, netip.PrefixFrom(a, a.BitLen()))
	}
	return out
}

// check refuses what would cut off more than it says, or nothing.
func (c *Cut) check() error {
	if c.All == (len(c.To)+len(c.Peers) > 0) {
		return errors.New("a cut is of all packets, or of those of some addresses")
	}
	for _, list := range [][]netip.Prefix{c.To, c.Peers} {
		for _, p := range list {
			if !p.IsValid() || p.Addr().Is4In6() || p.Bits() == 0 {
				return errors.New("a cut is of addresses, and " + p.String() + " is none, or all")
			}
		}
	}
	return nil
}

func (c *Cut) spaces() []string {
	if len(c.Spaces) == 0 {
		return []string{""}
	}
	return c.Spaces
}
