package vip

import (
	"cmp"
	"net/netip"
)

// Config is local to the node.
type Config struct {
	Device string   // holds IPv4 VIPs; "" is lo
	Tunnel []string // the interfaces of role tunnel: they hold IPv6 VIPs, and VIPs are announced there
	Subnet []string // the interfaces of role subnet: they hold gateways, and gateways are announced there
}

const loopback = "lo"

// devices are the interfaces that are to hold a. numbered tells of an interface whether others have given it an IPv4
// address; removing the last one from an interface makes Linux flush the interface's routes and neighbours, whoever's.
func (c Config) devices(a netip.Addr, k kind, silent bool, numbered func(ifname string) bool) []string {
	switch {
	case k == gateway && a.Is6():
		return c.Subnet
	case k == gateway:
		var list []string
		for _, name := range c.Subnet {
			if numbered(name) {
				list = append(list, name)
			}
		}
		if len(list) < len(c.Subnet) {
			list = append(list, loopback) // where ARP is answered for it on all interfaces, if arp_ignore allows
		}
		return list
	case a.Is4():
		return []string{cmp.Or(c.Device, loopback)}
	case silent:
		return []string{loopback} // where nobody asks for it
	}
	return c.Tunnel
}

// told are the interfaces on which a held address is announced.
func (c Config) told(k kind) []string {
	if k == gateway {
		return c.Subnet
	}
	return c.Tunnel
}
