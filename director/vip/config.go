package vip

import "net/netip"

// Config is local to the node.
type Config struct {
	Device string   // holds IPv4 VIPs; "" is lo
	Tunnel []string // the interfaces of role tunnel: they hold IPv6 VIPs, and VIPs are announced there
}

// devices are the interfaces that hold a.
func (c Config) devices(a netip.Addr) []string {
	switch {
	case a.Is6():
		return c.Tunnel
	case c.Device == "":
		return []string{"lo"}
	}
	return []string{c.Device}
}
