package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"slices"
)

// A caller connects to directors, never from a VIP: what is sent to that goes to the director's tunnels, and past this agent.
type caller struct {
	tls    *tls.Config
	vips   []netip.Addr
	own    []netip.Addr // addresses of this host that are told in its file
	facing []string     // interfaces towards the directors
}

func newCaller(cfg Config, tls *tls.Config) caller {
	c := caller{tls: tls}
	for _, s := range cfg.RealServers {
		c.vips = append(c.vips, s.VIPs...)
		if s.Namespace == "" {
			c.own, c.facing = append(c.own, s.Own...), append(c.facing, s.Interface)
		}
	}
	return c
}

func (c caller) dial(ctx context.Context, address string) (net.Conn, error) {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, err
	}
	d := tls.Dialer{NetDialer: &net.Dialer{}, Config: c.tls}
	from, err := c.source(to)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", address, err)
	}
	if from.IsValid() {
		d.NetDialer.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
	}
	return d.DialContext(ctx, "tcp", address)
}

// source is what to leave from instead of a VIP that the route says; the zero Addr where the kernel may choose.
func (c caller) source(to netip.AddrPort) (netip.Addr, error) {
	probe, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to)) // which sends nothing
	if err != nil {
		return netip.Addr{}, nil // to dial says why, too
	}
	defer probe.Close()
	chosen := probe.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
	if !slices.Contains(c.vips, chosen) {
		return netip.Addr{}, nil
	}
	best, most := netip.Addr{}, 0
	links, err := net.Interfaces()
	if err != nil {
		return netip.Addr{}, err
	}
	for _, l := range links {
		list, err := l.Addrs()
		if err != nil { // it is gone
			continue
		}
		for _, a := range list {
			p, err := netip.ParsePrefix(a.String())
			if err != nil || l.Flags&net.FlagUp == 0 || !c.fit(p.Addr(), chosen) {
				continue
			}
			if n := c.near(l.Name, p, to.Addr()); n > most {
				best, most = p.Addr(), n
			}
		}
	}
	if most == 0 {
		return netip.Addr{}, fmt.Errorf("the route's source is the VIP %v, and this host has no other address to leave from: give %v an address of its own, or another source to the route (ip route get %v)",
			chosen, c.facing, to.Addr())
	}
	return best, nil
}

// fit tells whether an address can take the place of a VIP.
func (c caller) fit(a, vip netip.Addr) bool {
	return a.Is4() == vip.Is4() && a.IsGlobalUnicast() && !slices.Contains(c.vips, a)
}

// near says how likely an address is to get answers of a director: more is better.
func (c caller) near(link string, p netip.Prefix, director netip.Addr) int {
	switch {
	case p.Contains(director):
		return 4
	case slices.Contains(c.own, p.Addr()):
		return 3
	case slices.Contains(c.facing, link):
		return 2
	}
	return 1
}
