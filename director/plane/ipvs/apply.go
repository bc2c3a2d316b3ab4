package ipvs

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"slices"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
)

// Apply programs changes.
func (p *Plane) Apply(ctx context.Context, u plane.Update) error {
	for _, e := range u.Entries {
		if err := check(e); err != nil {
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if u.Config != nil {
		if err := p.configure(*u.Config); err != nil {
			return err
		}
	}
	w := newWork()
	for _, e := range u.Entries {
		if !e.Delete {
			p.set(e, w)
		}
	}
	for _, e := range u.Entries {
		if e.Delete {
			p.remove(e, w)
		}
	}
	if p.due { // then all goes, and this with it
		return p.renew(ctx, w)
	}
	return p.owing(p.commit(ctx, u.Config != nil, w))
}

// owing notes that what failed is to be done anew.
func (p *Plane) owing(err error) error {
	p.due = p.due || err != nil
	return err
}

// Replace makes the plane hold exactly this. All that it sends carries new labels, so that whatever the kernel held before and
// is not held now ends, whether the plane knew of it or not.
func (p *Plane) Replace(ctx context.Context, c plane.Config, entries iter.Seq[plane.Entry]) error {
	var faults []error
	vips, subnets := map[netip.Addr]*vip{}, newSubnets()
	for e := range entries {
		if err := check(e); err != nil {
			faults = append(faults, err)
			continue
		}
		if !e.Endpoint.VIP.IsValid() {
			subnets.set(e.Subnet, e.Target)
			continue
		}
		v := vips[e.Endpoint.VIP]
		if v == nil {
			v = newVIP(e.Endpoint.VIP)
			vips[v.addr] = v
		}
		v.set(netip.AddrPortFrom(e.Endpoint.Addr, e.Endpoint.Port), e.Target)
	}
	if len(faults) > 0 {
		return errors.Join(faults...)
	}
	if err := p.unable(c); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	before := p.vips
	p.vips, p.subnets = vips, subnets
	if err := p.configure(c); err != nil {
		return err
	}
	w := newWork()
	for _, v := range before {
		now := p.vipAt(v.addr)
		for e := range v.all() {
			if t, ok := now.get(e); !ok || t.Drop == plane.DropNoPort {
				p.owe(v.addr, e) // its label ends it, but not the one under masq; and one for a port would stand before the pin for any
			}
		}
	}
	return p.renew(ctx, w)
}

// renew programs all that is held anew, under new labels.
func (p *Plane) renew(ctx context.Context, w *work) error {
	p.due = true
	if err := p.read(); err != nil {
		return err
	}
	for _, s := range p.services {
		s.label, s.at = 0, map[kind]dest{}
	}
	for k := range p.subnets.targets {
		w.subnets[k] = struct{}{}
	}
	w.whole = true
	err := p.commit(ctx, true, w)
	p.due = err != nil
	return err
}

// SetAlive says whether packets may go to an incarnation. Under dr it is one replacement of a nexthop object per pair that it is in.
func (p *Plane) SetAlive(i affinity.Index, alive bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	rs, ok := p.servers[i]
	if !ok {
		return fmt.Errorf("set real server %d alive=%t: no such index in the configuration; apply the configuration that has it first", i, alive)
	}
	rs.Alive = alive
	p.servers[i] = rs
	ctx := context.Background()
	err := p.point(ctx)
	if p.movesEntries() {
		err = errors.Join(err, p.virtuals(ctx))
	}
	return p.owing(err)
}

// movesEntries tells whether a death changes where entries go: under dr it does not.
func (p *Plane) movesEntries() bool {
	for _, rs := range p.servers {
		if rs.Method != affinity.DR {
			return true
		}
	}
	return false
}

// work is what an update touched, beside the configuration.
type work struct {
	fresh   map[*vip]map[netip.Addr]struct{} // addresses with pins that were set
	gone    map[*vip]map[netip.Addr]struct{} // addresses with pins that were deleted
	subnets map[plane.SubnetKey]struct{}
	cut     map[plane.SubnetKey]struct{}
	whole   bool // routes that are not known may be there, too
}

func newWork() *work {
	return &work{fresh: map[*vip]map[netip.Addr]struct{}{}, gone: map[*vip]map[netip.Addr]struct{}{},
		subnets: map[plane.SubnetKey]struct{}{}, cut: map[plane.SubnetKey]struct{}{}}
}

func (p *Plane) set(e plane.Entry, w *work) {
	if !e.Endpoint.VIP.IsValid() {
		p.subnets.set(e.Subnet, e.Target)
		w.subnets[e.Subnet] = struct{}{}
		delete(w.cut, e.Subnet)
		return
	}
	v := p.vipAt(e.Endpoint.VIP)
	end := netip.AddrPortFrom(e.Endpoint.Addr, e.Endpoint.Port)
	was, had := v.get(end)
	v.set(end, e.Target)
	if e.Target.Drop == plane.DropNoPort {
		if had && was.Drop != plane.DropNoPort {
			p.owe(v.addr, end)
			add(w.gone, v, end.Addr())
		}
		return
	}
	delete(p.graves[v.addr], end)
	add(w.fresh, v, end.Addr())
}

func (p *Plane) remove(e plane.Entry, w *work) {
	if !e.Endpoint.VIP.IsValid() {
		if p.subnets.drop(e.Subnet) {
			delete(w.subnets, e.Subnet)
			w.cut[e.Subnet] = struct{}{}
		}
		return
	}
	v := p.vipAt(e.Endpoint.VIP)
	if end := netip.AddrPortFrom(e.Endpoint.Addr, e.Endpoint.Port); v.drop(end) {
		p.owe(v.addr, end)
		add(w.gone, v, end.Addr())
	}
}

// owe takes down that the entries of an endpoint are to be ended, which stays so until the kernel has been told.
func (p *Plane) owe(vip netip.Addr, e netip.AddrPort) {
	if p.graves[vip] == nil {
		p.graves[vip] = map[netip.AddrPort]struct{}{}
	}
	p.graves[vip][e] = struct{}{}
}

func add(m map[*vip]map[netip.Addr]struct{}, v *vip, a netip.Addr) {
	if m[v] == nil {
		m[v] = map[netip.Addr]struct{}{}
	}
	m[v][a] = struct{}{}
}

// commit brings the kernel up to what is held: what is to be used before what uses it, what is new before what goes.
func (p *Plane) commit(ctx context.Context, configured bool, w *work) error {
	turned := configured || p.turned()
	if turned {
		if err := p.prepare(ctx, configured); err != nil {
			return err
		}
	}
	for v, addrs := range w.fresh {
		if err := p.sendAddrs(ctx, v, addrs); err != nil {
			return err
		}
	}
	if err := p.bury(ctx); err != nil {
		return err
	}
	if err := p.program(ctx, w); err != nil {
		return err
	}
	if err := p.guardNoPort(ctx, w); err != nil {
		return err
	}
	if !turned {
		return nil
	}
	return p.sweep(ctx, w)
}

// turned tells whether there are pins of a kind that there was none of, or no more pins of one that there was.
func (p *Plane) turned() bool {
	for _, v := range p.vips {
		if v.turned {
			return true
		}
	}
	return p.subnets.turned
}

// prepare makes what pins need.
func (p *Plane) prepare(ctx context.Context, configured bool) error {
	if configured {
		if err := p.guard(ctx); err != nil {
			return err
		}
	}
	if err := p.point(ctx); err != nil {
		return err
	}
	return p.virtuals(ctx)
}

// sweep takes out what no pin needs any more.
func (p *Plane) sweep(ctx context.Context, w *work) error {
	if w.whole {
		if err := p.sweepSubnets(ctx); err != nil {
			return err
		}
	}
	if err := p.sweepServices(ctx); err != nil {
		return err
	}
	p.watchCrowds()
	if err := p.sweepPaths(ctx); err != nil {
		return err
	}
	for _, v := range p.vips {
		v.turned = false
	}
	p.subnets.turned = false
	return nil
}

// vipAt is the VIP's book, begun if need be: pins may come before a service does.
func (p *Plane) vipAt(a netip.Addr) *vip {
	v := p.vips[a]
	if v == nil {
		v = newVIP(a)
		p.vips[a] = v
	}
	return v
}

// check refuses a key that no packet can ever match as its writer meant it.
func check(e plane.Entry) error {
	k := e.Endpoint
	switch {
	case k.VIP.IsValid() && (!k.Addr.IsValid() || k.VIP.Is4() != k.Addr.Is4()):
		return fmt.Errorf("apply endpoint %v at VIP %v: the two are not of one family", k.Addr, k.VIP)
	case !k.VIP.IsValid() && (!e.Subnet.Prefix.IsValid() || e.Subnet.Prefix != e.Subnet.Prefix.Masked()):
		return fmt.Errorf("apply subnet %v of tenant %d: not a canonical prefix; write %v", e.Subnet.Prefix, e.Subnet.Tenant, e.Subnet.Prefix.Masked())
	}
	return nil
}

// unable is an error if the plane cannot do what c asks.
func (p *Plane) unable(c plane.Config) error {
	var errs []error
	for _, f := range p.Check(c) {
		errs = append(errs, fmt.Errorf("%s %s: %w", f.Kind, f.Name, f.Fault))
	}
	if len(errs) == 0 {
		return nil
	}
	return fmt.Errorf("configure plane ipvs: %w: %w", plane.ErrUnsupported, errors.Join(errs...))
}

// configure takes in what is small. It touches nothing.
func (p *Plane) configure(c plane.Config) error {
	if err := p.unable(c); err != nil {
		return err
	}
	p.config = c
	p.servers = servers{}
	for _, rs := range c.RealServers {
		p.servers[rs.Index] = rs
	}
	for _, v := range p.vips {
		v.ports, v.esp = nil, false
	}
	for _, s := range c.Services {
		for _, a := range s.VIPs {
			v := p.vipAt(a)
			for _, m := range s.Match {
				v.ports = append(v.ports, portsOf(m)...)
				v.esp = v.esp || m.Proto != protoUDP
			}
		}
	}
	for _, v := range p.vips {
		slices.Sort(v.ports)
		v.ports = slices.Compact(v.ports)
	}
	return nil
}
