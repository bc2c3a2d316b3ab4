package ipvs

import (
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"tunneldirector/director/plane"
)

// Options say where the plane works and what it takes of the kernel's number spaces.
type Options struct {
	Interfaces []plane.Interface
	// Pairs4 and Pairs6 are where pair addresses are taken from: nobody else's, never seen on a wire. Default: 240.0.0.0/16 and
	// fd7d:6469:7265:6374::/64.
	Pairs4, Pairs6 netip.Prefix
	// Timeout is how long an entry lives without a packet, if nobody refreshes it: how long quiet tunnels outlive a dead
	// daemon. Default: 24 hours. The first UDP packet shortens it to the kernel's UDP timeout (ipvsadm --set; 5 minutes), counted from the last packet.
	Timeout time.Duration
	// Logger is told of operator's events. Default: none.
	Logger *slog.Logger
}

// Defaults of Options.
var (
	DefaultPairs4  = netip.MustParsePrefix("240.0.0.0/16")
	DefaultPairs6  = netip.MustParsePrefix("fd7d:6469:7265:6374::/64")
	DefaultTimeout = 24 * time.Hour
)

func (o Options) complete() (Options, error) {
	if !o.Pairs4.IsValid() {
		o.Pairs4 = DefaultPairs4
	}
	if !o.Pairs6.IsValid() {
		o.Pairs6 = DefaultPairs6
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	switch {
	case !o.Pairs4.Addr().Is4() || o.Pairs4.Bits() > 28:
		return o, fmt.Errorf("pairs %v: want an IPv4 prefix of /28 or shorter", o.Pairs4)
	case !o.Pairs6.Addr().Is6() || o.Pairs6.Bits() > 112:
		return o, fmt.Errorf("pairs %v: want an IPv6 prefix of /112 or shorter", o.Pairs6)
	case o.Timeout < time.Second || o.Timeout%time.Second != 0:
		return o, fmt.Errorf("timeout %v: want whole seconds, and one at least", o.Timeout)
	}
	for _, i := range o.Interfaces {
		if len(i.VLANs) > 0 {
			return o, fmt.Errorf("interface %s: tenants by 802.1Q tag are %w in plane ipvs; name the VLAN devices (%s.N) as interfaces, each with its tenant, or use plane xdp", i.Name, plane.ErrUnsupported, i.Name)
		}
	}
	return o, nil
}
