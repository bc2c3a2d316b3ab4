package lab

import (
	"crypto/ecdh"
	"errors"
	"fmt"
	"net/netip"
)

// Host numbers on the segments. Director i is 1+i, real server i is 10+i, site i is 10+i.
const (
	hostRouter   = 1
	hostGateway  = 1 // on the inner segment, where the router is not
	hostDirector = 2
	hostFirst    = 10
	hostTarget   = 100
)

const (
	subnetBits4 = 28
	subnetBits6 = 64
)

type segments struct{ sites, private, outer, rs, inner, mgmt segment }

func newSegments(withIPv6 bool) segments {
	s := func(name, net4, net6 string) segment {
		return segment{name, netip.MustParsePrefix(net4), netip.MustParsePrefix(net6), withIPv6}
	}
	return segments{
		sites:   s("sites", "203.0.113.0/24", "2001:db8:a::/64"),
		private: segment{name: "private", net4: netip.MustParsePrefix("192.168.0.0/24")},
		outer:   s("outer", "10.127.0.0/24", "2001:db8:d::/64"),
		rs:      s("rs", "198.51.100.0/24", "2001:db8:b::/64"),
		inner:   s("inner", "192.0.2.128/25", "2001:db8:c::/64"),
		mgmt:    segment{name: "mgmt", net4: netip.MustParsePrefix("10.127.1.0/24")},
	}
}

// networks are the segment's networks in use.
func (s segment) networks() []netip.Prefix {
	if s.withIPv6 {
		return []netip.Prefix{s.net4, s.net6}
	}
	return []netip.Prefix{s.net4}
}

func (l *Lab) covers() []netip.Prefix { return Covers[:len(l.VIPs)] }

// build makes everything, from the switch outwards.
func (l *Lab) build() error {
	seg := newSegments(l.opts.IPv6)
	var err error
	if l.Switch, err = l.namespace("switch"); err != nil {
		return err
	}
	if err := l.Switch.Sysctl(map[string]string{"ipv6/conf/default/disable_ipv6": "1"}); err != nil {
		return err
	}
	for _, s := range []segment{seg.sites, seg.private, seg.outer, seg.rs, seg.inner, seg.mgmt} {
		if err := l.addBridge(s); err != nil {
			return err
		}
	}
	for _, step := range []func(segments) error{l.buildDirectors, l.buildRouter, l.buildTarget, l.buildSites, l.buildRealServers} {
		if err := step(seg); err != nil {
			return err
		}
	}
	if l.opts.Bare {
		return nil
	}
	return l.startTunnels(seg)
}

// plugs collects the errors of several plugs in a row.
func (l *Lab) plugs(ns *Namespace, errs *error) func(name string, s segment, n int) Port {
	return func(name string, s segment, n int) Port {
		if *errs != nil {
			return Port{}
		}
		var p Port
		p, *errs = l.plug(ns, name, s, n)
		return p
	}
}

func (l *Lab) buildDirectors(seg segments) error {
	for i := range l.opts.Directors {
		if err := l.buildDirector(seg, i); err != nil {
			return err
		}
	}
	l.Director = l.Directors[0]
	l.Gateways = l.Director.Inner.Addrs
	if l.opts.Directors > 1 {
		l.Gateways = nil
		for _, a := range seg.inner.addrs(hostGateway) {
			l.Gateways = append(l.Gateways, a.Addr())
		}
	}
	return nil
}

// buildDirector builds number i, from 0.
func (l *Lab) buildDirector(seg segments, i int) error {
	role, title, n := "director", fmt.Sprintf("d%d", i+1), hostDirector+i
	if l.opts.Directors > 1 {
		role = title
	}
	ns, err := l.namespace(role)
	if err != nil {
		return err
	}
	plug := l.plugs(ns, &err)
	d := &Director{Namespace: ns, Title: title, Sites: plug("sites", seg.outer, n), RS: plug("rs", seg.rs, n), Inner: plug("inner", seg.inner, n)}
	if l.opts.Directors > 1 {
		d.Mgmt = plug("mgmt", seg.mgmt, n)
	}
	if err != nil {
		return err
	}
	l.Directors = append(l.Directors, d)
	for _, router := range seg.outer.addrs(hostRouter) {
		err = errors.Join(err, ns.route(defaultOf(router.Addr()), router.Addr(), "sites", 0))
	}
	return errors.Join(err, l.wakeful(d.Sites, d.RS, d.Inner))
}

func (l *Lab) buildRouter(seg segments) error {
	ns, err := l.namespace("router")
	if err != nil {
		return err
	}
	plug := l.plugs(ns, &err)
	l.Router = &Router{
		Namespace: ns, Sites: plug("sites", seg.sites, hostRouter), Outer: plug("outer", seg.outer, hostRouter),
		RS: plug("rs", seg.rs, hostRouter),
	}
	if err != nil {
		return err
	}
	for i, vip := range l.VIPs {
		via := l.Director.Sites.Addrs[i]
		if l.opts.OnLinkVIP || l.opts.Directors > 1 {
			via = netip.Addr{}
		}
		err = errors.Join(err, ns.route(netip.PrefixFrom(vip, vip.BitLen()), via, "outer", 0))
	}
	return errors.Join(err, ns.Sysctl(forwarding))
}

func (l *Lab) buildTarget(seg segments) error {
	ns, err := l.namespace("target")
	if err != nil {
		return err
	}
	l.Target = &Target{Namespace: ns}
	if l.Target.Inner, err = l.plug(ns, "inner", seg.inner, hostTarget); err != nil {
		return err
	}
	for i, cover := range l.covers() {
		err = errors.Join(err, ns.route(cover, l.Gateways[i], "inner", 0))
	}
	return errors.Join(err, l.serve(ns, l.Target.Inner.Addrs...))
}

func (l *Lab) buildRealServers(seg segments) error {
	for i := 1; i <= l.opts.RealServers; i++ {
		r := &RealServer{Index: i, Name: fmt.Sprintf("rs%d", i), lab: l}
		ns, err := l.namespace(r.Name)
		if err != nil {
			return err
		}
		r.NS = ns
		err = ns.Sysctl(forwarding)
		plug := l.plugs(ns, &err)
		r.DR, r.Inner = plug("dr", seg.rs, hostFirst+i), plug("inner", seg.inner, hostFirst+i)
		for _, router := range seg.rs.addrs(hostRouter) {
			err = errors.Join(err, ns.route(defaultOf(router.Addr()), router.Addr(), "dr", 0))
		}
		if err == nil {
			err = l.opts.Prepare(l, r)
		}
		if err == nil && l.opts.Decapsulate {
			err = r.decapsulate()
		}
		if err != nil {
			return err
		}
		l.RealServers = append(l.RealServers, r)
	}
	return nil
}

// holdVIPs gives a real server the virtual IPs, which it must not answer for: only for addresses of the interface asked on,
// and asked from those alone.
func holdVIPs(l *Lab, r *RealServer) error {
	err := r.NS.Sysctl(map[string]string{"ipv4/conf/all/arp_ignore": "1", "ipv4/conf/all/arp_announce": "2"})
	for _, vip := range l.VIPs {
		err = errors.Join(err, r.NS.Hold("lo", netip.PrefixFrom(vip, vip.BitLen())))
	}
	return err
}

func (l *Lab) buildSites(seg segments) error {
	if l.opts.BehindNAT > 0 {
		if err := l.buildNAT(seg); err != nil {
			return err
		}
	}
	machines := make([]siteMachine, l.opts.SiteNamespaces)
	for i := 1; i <= l.opts.Sites; i++ {
		m := &machines[(i-1)%len(machines)]
		hidden := i > l.opts.Sites-l.opts.BehindNAT
		at := seg.sites
		if hidden {
			at = seg.private
		}
		if err := l.addSiteMachine(m, at, i); err != nil {
			return err
		}
		s := &Site{Index: i, Name: fmt.Sprintf("site-%03d", i), NS: m.ns, Port: m.port}
		s.Port.Addrs = nil
		for _, a := range at.addrs(hostFirst + i) {
			s.Port.Addrs = append(s.Port.Addrs, a.Addr())
		}
		family := (i - 1) % len(s.Port.Addrs)
		s.Local, s.VIP = s.Port.Addrs[family], l.VIPs[family]
		s.Endpoint = s.Local
		if hidden {
			s.Endpoint = l.NAT.Outer.Addrs[0]
		}
		if err := l.addSubnets(s); err != nil {
			return err
		}
		l.Sites = append(l.Sites, s)
	}
	return nil
}

// A siteMachine is the namespace of one or several sites.
type siteMachine struct {
	ns   *Namespace
	port Port
}

// addSiteMachine makes the machine of site i, or gives one that is there the site's addresses.
func (l *Lab) addSiteMachine(m *siteMachine, at segment, i int) (err error) {
	if m.ns != nil {
		for _, a := range at.addrs(hostFirst + i) {
			err = errors.Join(err, m.ns.Hold("outer", a))
		}
		return err
	}
	if m.ns, err = l.namespace(fmt.Sprintf("site%d", i)); err != nil {
		return err
	}
	if m.port, err = l.plug(m.ns, "outer", at, hostFirst+i); err != nil {
		return err
	}
	for _, router := range at.addrs(hostRouter) {
		err = errors.Join(err, m.ns.route(defaultOf(router.Addr()), router.Addr(), "outer", 0))
	}
	if l.opts.IPv6 && !at.withIPv6 {
		// Without a route the kernel looks no IPsec policy up, and IPv6 inside IPv4 would not leave.
		err = errors.Join(err, m.ns.route(defaultOf(netip.IPv6Unspecified()), netip.Addr{}, "outer", 0))
	}
	return err
}

// addSubnets gives a site subnet number i of each cover, and the first address of it.
func (l *Lab) addSubnets(s *Site) error {
	subnets := []netip.Prefix{
		netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64, byte(s.Index), 0}), subnetBits4),
		netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 0, 0x64, 0, byte(s.Index)}), subnetBits6),
	}
	for _, p := range subnets[:len(l.VIPs)] {
		a := p.Addr().Next()
		s.Subnets, s.Inside = append(s.Subnets, p), append(s.Inside, a)
		if err := s.NS.Hold("lo", netip.PrefixFrom(a, a.BitLen())); err != nil {
			return err
		}
	}
	return l.serve(s.NS, s.Inside...)
}

// startTunnels gives everybody keys and starts WireGuard everywhere.
func (l *Lab) startTunnels(seg segments) error {
	vipKey, err := newKey()
	if err != nil {
		return err
	}
	peers := make([]wgPeer, 0, len(l.Sites))
	for _, s := range l.Sites {
		pub, err := l.startSite(s, vipKey.PublicKey(), seg.inner.networks())
		if err != nil {
			return err
		}
		peers = append(peers, wgPeer{key: pub, allowed: s.Subnets})
	}
	for _, r := range l.RealServers {
		r.config = wgConfig{name: "wg0", key: vipKey, locals: l.VIPs, port: WireGuardPort, peers: peers}
		r.counts = newCounters(l.Sites)
		if err := r.start(); err != nil {
			return err
		}
	}
	return nil
}

// startSite starts a site's WireGuard. What leaves the site's subnets goes by it, by a routing table of the site's own,
// since several sites may share a namespace.
func (l *Lab) startSite(s *Site, vip *ecdh.PublicKey, beyond []netip.Prefix) (*ecdh.PublicKey, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("wg%d", s.Index)
	s.service = vip
	s.wg, s.bind, err = openWireGuard(s.NS, wgConfig{
		name: name, key: key, locals: []netip.Addr{s.Local},
		peers: []wgPeer{{
			key: vip, endpoint: netip.AddrPortFrom(s.VIP, WireGuardPort), allowed: beyond, keepalive: l.opts.Keepalive,
		}},
	}, nil, nil, l.opts.Logger)
	if err != nil {
		return nil, err
	}
	table := 1000 + s.Index
	for i, subnet := range s.Subnets {
		err = errors.Join(err, s.NS.route(beyond[i], netip.Addr{}, name, table), s.NS.rule(subnet, netip.Prefix{}, table, table))
	}
	return key.PublicKey(), err
}
