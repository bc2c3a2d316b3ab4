package sim

import (
	"context"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"sync"
	"time"

	"tunneldirector/affinity"
	"tunneldirector/director"
	"tunneldirector/director/plane"
	"tunneldirector/director/plane/mem"
)

// A key is of an entry: one of the two.
type key struct {
	endpoint plane.EndpointKey
	subnet   plane.SubnetKey
}

// A kernel is what stays of a director's machine when its process ends: the data plane, and addresses for as long as they live.
type kernel struct {
	*mem.Plane

	mu      sync.Mutex
	entries map[key]plane.Target // as the plane was told
	alive   map[affinity.Index]bool
	names   map[affinity.Index]string
	held    director.Held
	renewed time.Time // when it was said last what is to be held
	ended   time.Time // when the process ended; zero: it runs
}

var interfaces = []plane.Interface{{Name: "out", Roles: plane.RoleTunnel}, {Name: "in", Roles: plane.RoleSubnet}, {Name: "rs", Roles: plane.RoleRealServers}}

func newKernel() *kernel {
	return &kernel{Plane: mem.New(interfaces), entries: map[key]plane.Target{}, alive: map[affinity.Index]bool{}, names: map[affinity.Index]string{}}
}

// configure notes which incarnations there are. The caller holds mu.
func (k *kernel) configure(c plane.Config) {
	clear(k.alive)
	for _, rs := range c.RealServers {
		k.alive[rs.Index], k.names[rs.Index] = rs.Alive, rs.Name
	}
}

func (k *kernel) note(e plane.Entry) {
	at := key{endpoint: e.Endpoint}
	if !e.Endpoint.VIP.IsValid() {
		at = key{subnet: e.Subnet}
	}
	if e.Delete {
		delete(k.entries, at)
	} else {
		k.entries[at] = e.Target
	}
}

// hung is how long addresses are renewed for a loop that does not turn.
const hung = 10 * time.Second

// holds tells whether an address is local now.
func (k *kernel) holds(a netip.Addr) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !slices.Contains(k.held.Own, a) && !slices.Contains(k.held.Gateways, a) {
		return false
	}
	if !k.ended.IsZero() {
		return time.Since(k.ended) < k.held.Lifetime
	}
	return time.Since(k.renewed) < hung+k.held.Lifetime
}

// A grip is one process's hold of its machine. It ends with the process.
type grip struct {
	k *kernel
	p *process
}

var (
	_ plane.Observer = (*grip)(nil)
	_ plane.Plane    = (*grip)(nil)
	_ director.Host  = (*grip)(nil)
)

// Apply programs, and keeps account.
func (g *grip) Apply(ctx context.Context, u plane.Update) error {
	if g.p.dead.Load() {
		return errGone
	}
	g.k.mu.Lock()
	defer g.k.mu.Unlock()
	if u.Config != nil {
		g.k.configure(*u.Config)
	}
	for _, deletes := range []bool{false, true} {
		for _, e := range u.Entries {
			if e.Delete == deletes {
				g.k.note(e)
			}
		}
	}
	return g.k.Plane.Apply(ctx, u)
}

// Replace programs the whole, and keeps account.
func (g *grip) Replace(ctx context.Context, c plane.Config, entries iter.Seq[plane.Entry]) error {
	if g.p.dead.Load() {
		return errGone
	}
	g.k.mu.Lock()
	defer g.k.mu.Unlock()
	g.k.configure(c)
	clear(g.k.entries)
	for e := range entries {
		g.k.note(e)
	}
	return g.k.Plane.Replace(ctx, c, entries)
}

// SetAlive fails over, and keeps account.
func (g *grip) SetAlive(i affinity.Index, alive bool) error {
	if g.p.dead.Load() {
		return errGone
	}
	g.k.mu.Lock()
	defer g.k.mu.Unlock()
	g.k.alive[i] = alive
	return g.k.Plane.SetAlive(i, alive)
}

func (g *grip) Lookup(p plane.Packet) (plane.Decision, error) { return g.k.Lookup(p) }
func (g *grip) Close() error                                  { return nil }
func (g *grip) Stats() (plane.Stats, error)                   { return g.k.Stats() }

// Seen is by the machine's wall clock.
func (g *grip) Seen(k plane.EndpointKey) (time.Time, error) {
	at, err := g.k.Plane.Seen(k)
	if err == nil && !at.IsZero() {
		at = at.Add(g.p.n.clock.offset())
	}
	return at, err
}

// LastSeen is by the machine's wall clock.
func (g *grip) LastSeen(ctx context.Context, since time.Time, f func(plane.EndpointKey, time.Time) bool) error {
	off := g.p.n.clock.offset()
	return g.k.LastSeen(ctx, since.Round(0).Add(-off), func(k plane.EndpointKey, at time.Time) bool { return f(k, at.Add(off)) })
}

// Local has an address for each director.
func (g *grip) Local([]netip.Addr) ([]netip.Addr, []netip.Prefix, error) {
	return []netip.Addr{g.p.n.member.Stream.Addr()}, []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}, nil
}

// Hold notes what is to be held.
func (g *grip) Hold(_ context.Context, h director.Held) error {
	if g.p.dead.Load() {
		return errGone
	}
	g.k.mu.Lock()
	defer g.k.mu.Unlock()
	g.k.held, g.k.renewed, g.k.ended = h, time.Now(), time.Time{}
	return nil
}

func (g *grip) LinksUp() bool { return true }

// words is what an entry's key says.
func (k key) words() string {
	if k.endpoint.VIP.IsValid() {
		return fmt.Sprintf("endpoint %v:%d at %v", k.endpoint.Addr, k.endpoint.Port, k.endpoint.VIP)
	}
	return fmt.Sprintf("subnet %v of tenant %d", k.subnet.Prefix, k.subnet.Tenant)
}
