package lab

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// start makes wg0, and routes to the subnets behind all sites into it.
func (r *RealServer) start() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.wg != nil || r.lab.opts.Bare {
		return nil
	}
	wg, _, err := openWireGuard(r.NS, r.config, r.counts, &r.gate, r.lab.opts.Logger)
	if err != nil {
		return err
	}
	r.wg = wg
	err = r.serveControl()
	for _, cover := range r.lab.covers() {
		err = errors.Join(err, r.NS.route(cover, netip.Addr{}, r.config.name, 0))
	}
	return err
}

func (r *RealServer) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gate.open() // nothing ends that waits there
	if r.wg != nil {
		_ = r.control.Close()
		r.wg.Close()
		r.wg = nil
	}
}

// Counts are what passed between this real server and a site since the lab was built, deaths included.
func (r *RealServer) Counts(s *Site) Counts { return r.counts.sites[s.Index-1].read() }

// Peer is what WireGuard says of a site at this real server.
func (r *RealServer) Peer(s *Site) (Peer, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.wg == nil {
		return Peer{}, fmt.Errorf("ask %s about %s: it is dead", r.Name, s.Name)
	}
	return readPeer(r.wg, r.config.peers[s.Index-1].key)
}

// Peer is what a site's WireGuard says of the virtual service. Its Endpoint is the source of the newest genuine datagram
// from there: WireGuard follows its peer, so that an answer from another address than the virtual IP would show.
func (s *Site) Peer() (Peer, error) { return readPeer(s.wg, s.service) }

// Roam moves a site's WireGuard to an address of its network and a port: whoever it speaks to sees it come from there
// from now on. Endpoint and Local stay what they were.
func (s *Site) Roam(to netip.AddrPort) error {
	if to.Addr() != s.Local {
		if err := s.NS.Hold(s.Port.Name, netip.PrefixFrom(to.Addr(), 24)); err != nil {
			return err
		}
	}
	s.bind.move(to.Addr())
	if err := s.wg.IpcSet(fmt.Sprintf("listen_port=%d\n", to.Port())); err != nil { // opens the sockets anew
		return fmt.Errorf("move %s to %s: %w", s.Name, to, err)
	}
	return nil
}

// KillRealServer makes the host of real server i (from 1) dead to the world: its cables are pulled, its WireGuard ends
// and forgets all it knew, its processes are killed. What they left in the kernel stays.
func (l *Lab) KillRealServer(i int) error {
	r, err := l.realServer(i)
	if err != nil {
		return err
	}
	err = errors.Join(l.setOutlet(r.DR, false), l.setOutlet(r.Inner, false))
	r.stop()
	for _, p := range l.running() {
		if p.ns == r.NS {
			p.Kill()
		}
	}
	return err
}

// Restore lets a real server that was killed start anew: it knows the sites, and has no tunnel. Of a bare one only the
// cables are plugged in.
func (l *Lab) Restore(i int) error {
	r, err := l.realServer(i)
	if err != nil {
		return err
	}
	return errors.Join(r.start(), l.setOutlet(r.DR, true), l.setOutlet(r.Inner, true))
}

func (l *Lab) realServer(i int) (*RealServer, error) {
	if i < 1 || i > len(l.RealServers) {
		return nil, fmt.Errorf("real server %d: there are 1 to %d", i, len(l.RealServers))
	}
	return l.RealServers[i-1], nil
}

// setOutlet sets the switch's end of a cable up or down; the machine sees the carrier come or go.
func (l *Lab) setOutlet(p Port, up bool) error {
	link, err := l.Switch.nl.LinkByName(p.outlet)
	if err != nil {
		return fmt.Errorf("find %s in the switch: %w", p.outlet, err)
	}
	set := l.Switch.nl.LinkSetDown
	if up {
		set = l.Switch.nl.LinkSetUp
	}
	if err := set(link); err != nil {
		return fmt.Errorf("set %s in the switch up=%t: %w", p.outlet, up, err)
	}
	return nil
}

// SetCable pulls or plugs in the cable of any machine's port.
func (l *Lab) SetCable(p Port, up bool) error { return l.setOutlet(p, up) }

// rule sends what matches source and destination (the zero Prefix: any) to a routing table.
func (n *Namespace) rule(from, to netip.Prefix, priority, table int) error {
	r := newRule(from, to, priority, table)
	if err := n.nl.RuleAdd(r); err != nil {
		return fmt.Errorf("add rule from %s to %s in %s: %w", from, to, n.Name, err)
	}
	return nil
}

func newRule(from, to netip.Prefix, priority, table int) *netlink.Rule {
	r := netlink.NewRule()
	r.Priority, r.Table, r.Family = priority, table, netlink.FAMILY_V4
	if from.IsValid() {
		r.Src = ipNet(from)
	}
	if to.IsValid() {
		r.Dst = ipNet(to)
	}
	if from.Addr().Is6() || to.Addr().Is6() {
		r.Family = netlink.FAMILY_V6
	}
	return r
}
