package shadow

import (
	"context"
	"fmt"
	"iter"
	"net/netip"
	"sync"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
	"tunneldirector/director/plane/ipvs"
	"tunneldirector/director/plane/ipvs/conntab"
	"tunneldirector/director/plane/mem"
)

// A Plane holds what it was told, and forwards nothing.
type Plane struct {
	table  *mem.Plane
	kernel kernel

	mu        sync.Mutex // guards all below
	config    plane.Config
	primaries map[plane.EndpointKey]affinity.Index // of the endpoints that have one
}

// A kernel is what an audit reads.
type kernel struct {
	services func() ([]service, error)
	conns    func() iter.Seq2[conntab.Entry, error]
}

// A service is a virtual service of the kernel and the addresses of its real servers.
type service struct {
	mark     uint32 // a firewall mark, in place of protocol and addr
	protocol uint8
	addr     netip.AddrPort // port 0: all ports
	servers  []netip.Addr
}

var (
	_ plane.Plane   = (*Plane)(nil)
	_ plane.Checker = (*Plane)(nil)
	_ plane.Auditor = (*Plane)(nil)
)

// Open is an empty plane beside the IPVS in whose network namespace Audit will be called. It returns plane.ErrUnsupported,
// wrapped, where there is no IPVS.
func Open(interfaces []plane.Interface) (*Plane, error) {
	p := newPlane(interfaces, kernel{services: readServices, conns: conntab.Read})
	if _, err := p.kernel.services(); err != nil {
		return nil, fmt.Errorf("open plane shadow: %w", err)
	}
	return p, nil
}

func newPlane(interfaces []plane.Interface, k kernel) *Plane {
	return &Plane{table: mem.New(interfaces), kernel: k, primaries: map[plane.EndpointKey]affinity.Index{}}
}

// Check tells what plane ipvs could not do, because that is the plane to move over to.
func (p *Plane) Check(c plane.Config) []plane.Inability { return ipvs.Check(c) }

// Apply takes u in, or nothing of it if an entry is wrong.
func (p *Plane) Apply(ctx context.Context, u plane.Update) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.table.Apply(ctx, u); err != nil {
		return err
	}
	if u.Config != nil {
		p.config = *u.Config
	}
	for _, deleted := range []bool{false, true} {
		for _, e := range u.Entries {
			if e.Delete == deleted {
				p.note(e)
			}
		}
	}
	return nil
}

// Replace holds exactly this, or changes nothing if an entry is wrong.
func (p *Plane) Replace(ctx context.Context, c plane.Config, entries iter.Seq[plane.Entry]) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.table.Replace(ctx, c, entries); err != nil {
		return err
	}
	p.config = c
	clear(p.primaries)
	for e := range entries {
		p.note(e)
	}
	return nil
}

func (p *Plane) note(e plane.Entry) {
	switch k := e.Endpoint; {
	case !k.VIP.IsValid():
	case e.Delete || e.Target.Drop != plane.None:
		delete(p.primaries, k)
	default:
		p.primaries[k] = e.Target.Primary
	}
}

// SetAlive marks one incarnation.
func (p *Plane) SetAlive(i affinity.Index, alive bool) error { return p.table.SetAlive(i, alive) }

// Lookup tells what the table says of a packet.
func (p *Plane) Lookup(packet plane.Packet) (plane.Decision, error) { return p.table.Lookup(packet) }

// Close does nothing: there is nothing to let go of.
func (p *Plane) Close() error { return nil }
