package lab

import (
	"errors"
	"fmt"
	"net/netip"
)

// A Standin forwards in the director's place by the kernel's own routing: a rule per site, a route per subnet. The lab's
// own tests use it, and it is what a data plane is compared with. It holds no virtual IP.
type Standin struct {
	lab  *Lab
	pins map[*Site]*RealServer
}

// NewStandin makes the director's namespace a router with no pins.
func (l *Lab) NewStandin() (*Standin, error) {
	for _, r := range l.RealServers {
		for _, a := range r.DR.Addrs {
			if err := l.Director.route(defaultOf(a), a, l.Director.RS.Name, 100+r.Index); err != nil {
				return nil, err
			}
		}
	}
	return &Standin{l, map[*Site]*RealServer{}}, l.Director.Sysctl(forwarding)
}

// Pin sends a site's packets, and those to its subnets, to a real server.
func (d *Standin) Pin(s *Site, r *RealServer) error {
	ns := d.lab.Director.Namespace
	from, to := netip.PrefixFrom(s.Endpoint, s.Endpoint.BitLen()), netip.PrefixFrom(s.VIP, s.VIP.BitLen())
	if old := d.pins[s]; old != nil {
		if err := ns.nl.RuleDel(newRule(from, to, 100, 100+old.Index)); err != nil {
			return fmt.Errorf("delete the pin of %s: %w", s.Name, err)
		}
		delete(d.pins, s)
	}
	err := ns.rule(from, to, 100, 100+r.Index)
	if err == nil {
		d.pins[s] = r
	}
	for i, subnet := range s.Subnets {
		err = errors.Join(err, ns.route(subnet, r.DR.Addrs[i], d.lab.Director.RS.Name, 0))
	}
	return err
}
