package lab

import (
	"net/netip"
	"sync/atomic"
)

// Counts are the packets of one site at one real server, counted where it reads and writes them: at its UDP sockets
// (Outer) and at its TUN device (Inner). In is from the site, Out is to the site.
type Counts struct {
	OuterIn, OuterOut uint64 // datagrams, handshakes and keepalives too
	InnerIn, InnerOut uint64 // packets decrypted, and packets the kernel gave to be encrypted (sent or not)
	Handshakes        uint64 // initiations received
}

// Sub returns what was counted since o.
func (c Counts) Sub(o Counts) Counts {
	return Counts{
		c.OuterIn - o.OuterIn, c.OuterOut - o.OuterOut, c.InnerIn - o.InnerIn, c.InnerOut - o.InnerOut,
		c.Handshakes - o.Handshakes,
	}
}

type siteCounter struct {
	outerIn, outerOut, innerIn, innerOut, handshakes atomic.Uint64
}

func (c *siteCounter) read() Counts {
	return Counts{c.outerIn.Load(), c.outerOut.Load(), c.innerIn.Load(), c.innerOut.Load(), c.handshakes.Load()}
}

// counters are a real server's, by site. The maps are written before the first packet and only read from then on.
type counters struct {
	outer map[netip.Addr]*siteCounter
	inner map[netip.Prefix]*siteCounter
	sites []*siteCounter
	other siteCounter // of no site we know
}

func newCounters(sites []*Site) *counters {
	c := &counters{outer: map[netip.Addr]*siteCounter{}, inner: map[netip.Prefix]*siteCounter{}}
	for _, s := range sites {
		sc := new(siteCounter)
		c.sites = append(c.sites, sc)
		for _, a := range s.Port.Addrs {
			c.outer[a] = sc
		}
		c.outer[s.Endpoint] = sc
		for _, p := range s.Subnets {
			c.inner[p] = sc
		}
	}
	return c
}

func (c *counters) byOuter(a netip.Addr) *siteCounter {
	if sc := c.outer[a]; sc != nil {
		return sc
	}
	return &c.other
}

func (c *counters) byInner(a netip.Addr) *siteCounter {
	bits := subnetBits4
	if a.Is6() {
		bits = subnetBits6
	}
	if p, err := a.Prefix(bits); err == nil {
		if sc := c.inner[p]; sc != nil {
			return sc
		}
	}
	return &c.other
}

// received and sent count a datagram; the first byte of a WireGuard message is its type.
func (c *counters) received(from netip.Addr, datagram []byte) {
	sc := c.byOuter(from)
	sc.outerIn.Add(1)
	if len(datagram) > 0 && datagram[0] == 1 {
		sc.handshakes.Add(1)
	}
}

func (c *counters) sent(to netip.Addr) { c.byOuter(to).outerOut.Add(1) }

// decrypted and encrypting count an IP packet of the inside.
func (c *counters) decrypted(packet []byte) {
	if src, _, ok := addresses(packet); ok {
		c.byInner(src).innerIn.Add(1)
	}
}

func (c *counters) encrypting(packet []byte) {
	if _, dst, ok := addresses(packet); ok {
		c.byInner(dst).innerOut.Add(1)
	}
}

// addresses reads source and destination of an IP packet.
func addresses(p []byte) (src, dst netip.Addr, ok bool) {
	switch {
	case len(p) >= 20 && p[0]>>4 == 4:
		return netip.AddrFrom4([4]byte(p[12:16])), netip.AddrFrom4([4]byte(p[16:20])), true
	case len(p) >= 40 && p[0]>>4 == 6:
		return netip.AddrFrom16([16]byte(p[8:24])), netip.AddrFrom16([16]byte(p[24:40])), true
	}
	return src, dst, false
}
