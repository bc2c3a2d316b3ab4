package xdp

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netns"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
)

// A Plane is the program and its maps in the kernel. It implements plane.Plane, plane.Observer and plane.Sampler.
type Plane struct {
	options Options
	log     *slog.Logger
	o       forwardObjects
	hook    *hook
	ns      netns.NsHandle

	pins    *pins
	subnets *subnets
	servers *servers
	small   *small

	ports ports
	// wanted is what Run keeps links for; poke says that it changed.
	wanted  atomic.Pointer[[]plane.RealServer]
	poke    chan struct{}
	numbers atomic.Pointer[numbering]
	// warnings are Run's.
	warnings atomic.Pointer[[]string]

	watchMu sync.Mutex // guards td_watch
}

var (
	_ plane.Plane    = (*Plane)(nil)
	_ plane.Observer = (*Plane)(nil)
	_ plane.Checker  = (*Plane)(nil)
	_ plane.Sampler  = (*Plane)(nil)
)

// Check tells what of c the plane cannot do.
func (p *Plane) Check(c plane.Config) []plane.Inability { return Check(c) }

// Apply programs u. A pin that stays or changes keeps its last-seen.
func (p *Plane) Apply(ctx context.Context, u plane.Update) error {
	if u.Config != nil {
		if err := p.configure(u.Config); err != nil {
			return err
		}
		if err := p.settle(u.Config); err != nil {
			return err
		}
	}
	if err := p.setEntries(ctx, u.Entries); err != nil {
		return err
	}
	if err := p.deleteEntries(ctx, u.Entries); err != nil {
		return err
	}
	p.publish()
	return nil
}

// configure adds and changes what c says; nothing goes.
func (p *Plane) configure(c *plane.Config) error {
	covers, err := coversOf(c.Tenants)
	if err != nil {
		return err
	}
	if err := checkServices(c.Services); err != nil {
		return err
	}
	if err := checkServers(c.RealServers); err != nil {
		return err
	}
	if err := p.small.read(c, p.pins.byPort); err != nil {
		return err
	}
	if err := p.servers.grow(c.RealServers); err != nil {
		return err
	}
	p.want(c.RealServers)
	if err := p.subnets.setCovers(covers); err != nil {
		return err
	}
	return p.small.grow(c)
}

// settle takes away what c does not have.
func (p *Plane) settle(c *plane.Config) error {
	if err := p.small.shrink(); err != nil {
		return err
	}
	if err := p.servers.shrink(c.RealServers); err != nil {
		return err
	}
	if err := p.small.forget(p.pins.all); err != nil {
		return err
	}
	p.publish()
	return nil
}

// want tells Run which real servers to reach.
func (p *Plane) want(list []plane.RealServer) {
	p.wanted.Store(&list)
	p.look()
}

// look has Run look again.
func (p *Plane) look() {
	select {
	case p.poke <- struct{}{}:
	default:
	}
}

func (p *Plane) setEntries(ctx context.Context, entries []plane.Entry) error {
	var b batch
	for _, e := range entries {
		if e.Delete {
			continue
		}
		if err := p.add(&b, e); err != nil {
			return err
		}
		if b.len() < chunk {
			continue
		}
		if err := p.set(ctx, &b); err != nil {
			return err
		}
	}
	return p.set(ctx, &b)
}

func (p *Plane) deleteEntries(ctx context.Context, entries []plane.Entry) error {
	var pins []plane.EndpointKey
	var subnets []plane.SubnetKey
	for i, e := range entries {
		switch {
		case !e.Delete:
		case e.Endpoint.VIP.IsValid():
			pins = append(pins, e.Endpoint)
		default:
			subnets = append(subnets, e.Subnet)
		}
		if len(pins)+len(subnets) < chunk && i < len(entries)-1 {
			continue
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("delete entries: %w", err)
		}
		if err := p.pins.remove(pins); err != nil {
			return err
		}
		if err := p.subnets.remove(subnets); err != nil {
			return err
		}
		pins, subnets = pins[:0], subnets[:0]
	}
	return nil
}

// A batch is a chunk of entries on their way.
type batch struct {
	pins    pinBatch
	subnets subnetBatch
}

func (b *batch) len() int { return b.pins.len() + b.subnets.len() }

func (b *batch) reset() {
	b.pins.reset()
	b.subnets.reset()
}

func (p *Plane) add(b *batch, e plane.Entry) error {
	if e.Endpoint.VIP.IsValid() {
		return p.pins.add(&b.pins, e)
	}
	return p.subnets.add(&b.subnets, e)
}

func (p *Plane) set(ctx context.Context, b *batch) error {
	defer b.reset()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("set entries: %w", err)
	}
	if err := p.pins.set(&b.pins); err != nil {
		return err
	}
	return p.subnets.set(&b.subnets)
}

// Replace makes the tables hold exactly c and entries: it reads what is there, adds and changes, and deletes last. It
// keeps what was there in memory meanwhile, about 40 bytes an entry.
func (p *Plane) Replace(ctx context.Context, c plane.Config, entries iter.Seq[plane.Entry]) error {
	if err := p.configure(&c); err != nil {
		return err
	}
	pins, err := p.pins.replace()
	if err != nil {
		return err
	}
	subnets, err := p.subnets.replace()
	if err != nil {
		return err
	}
	var b batch
	flush := func() error {
		defer b.reset()
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("replace entries: %w", err)
		}
		if err := pins.want(&b.pins); err != nil {
			return err
		}
		return subnets.want(&b.subnets)
	}
	for e := range entries {
		if err := p.add(&b, e); err != nil {
			return err
		}
		if b.len() < chunk {
			continue
		}
		if err := flush(); err != nil {
			return err
		}
	}
	if err := flush(); err != nil {
		return err
	}
	if err := pins.finish(); err != nil {
		return err
	}
	if err := subnets.finish(); err != nil {
		return err
	}
	return p.replaced(&c)
}

func (p *Plane) replaced(c *plane.Config) error {
	if err := p.small.read(c, p.pins.byPort); err != nil { // VIPs that have no pin with a port any more
		return err
	}
	if err := p.small.grow(c); err != nil {
		return err
	}
	if err := p.settle(c); err != nil {
		return err
	}
	if !p.hook.later {
		return nil
	}
	if err := p.lookOnce(); err != nil {
		return err
	}
	p.ports.mu.Lock()
	defer p.ports.mu.Unlock()
	if err := p.hook.swap(); err != nil {
		return err
	}
	p.look() // at interfaces that had to wait for it
	return nil
}

// SetAlive is one write to one array.
func (p *Plane) SetAlive(i affinity.Index, alive bool) error { return p.servers.setAlive(i, alive) }

// Close lets go of maps, program and links; they are pinned, and go on.
func (p *Plane) Close() error {
	p.ports.mu.Lock()
	p.hook.close()
	p.ports.mu.Unlock()
	p.o.Close()
	if err := p.ns.Close(); err != nil {
		return fmt.Errorf("close network namespace: %w", err)
	}
	return nil
}

// census learns what pinned maps hold.
func (p *Plane) census() error {
	for _, read := range []func() error{p.small.census, p.servers.census, p.pins.census, p.subnets.census} {
		if err := read(); err != nil {
			return fmt.Errorf("adopt the pinned maps: %w", err)
		}
	}
	p.publish()
	return nil
}

func bigMaps(spec *ebpf.CollectionSpec, o Options) {
	for name, size := range map[string]uint32{forwardMapTdPins4: o.MaxPins, forwardMapTdPins6: o.MaxPins,
		forwardMapTdSubnets4: o.MaxSubnets, forwardMapTdSubnets6: o.MaxSubnets} {
		spec.Maps[name].MaxEntries = size
	}
}
