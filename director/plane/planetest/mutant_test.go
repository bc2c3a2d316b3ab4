package planetest

import (
	"context"
	"iter"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
	"tunneldirector/director/plane/mem"
)

// A mutant is mem with one fault. What is nil is as in mem.
type mutant struct {
	*mem.Plane
	entry    func(*plane.Entry) bool // rewrites an entry; false loses it
	config   func(*plane.Config)
	packet   func(*plane.Packet)
	decision func(*plane.Decision)
	update   func(m *mutant, u plane.Update) error // in place of Apply
	replace  func(m *mutant, c plane.Config, entries []plane.Entry) error
	alive    func(m *mutant, i affinity.Index, alive bool) error
}

func (m *mutant) Apply(ctx context.Context, u plane.Update) error {
	if u.Config != nil {
		u.Config = m.configured(*u.Config)
	}
	u.Entries = m.rewrite(u.Entries)
	if m.update != nil {
		return m.update(m, u)
	}
	return m.Plane.Apply(ctx, u)
}

func (m *mutant) Replace(ctx context.Context, c plane.Config, entries iter.Seq[plane.Entry]) error {
	list, config := m.rewrite(slices.Collect(entries)), m.configured(c)
	if m.replace != nil {
		return m.replace(m, *config, list)
	}
	return m.Plane.Replace(ctx, *config, slices.Values(list))
}

func (m *mutant) SetAlive(i affinity.Index, alive bool) error {
	if m.alive != nil {
		return m.alive(m, i, alive)
	}
	return m.Plane.SetAlive(i, alive)
}

func (m *mutant) Lookup(p plane.Packet) (plane.Decision, error) {
	if m.packet != nil {
		m.packet(&p)
	}
	d, err := m.Plane.Lookup(p)
	if m.decision != nil {
		m.decision(&d)
	}
	return d, err
}

func (m *mutant) configured(c plane.Config) *plane.Config {
	c.Services, c.Tenants, c.RealServers = slices.Clone(c.Services), slices.Clone(c.Tenants), slices.Clone(c.RealServers)
	if m.config != nil {
		m.config(&c)
	}
	return &c
}

func (m *mutant) rewrite(entries []plane.Entry) []plane.Entry {
	if m.entry == nil {
		return entries
	}
	var kept []plane.Entry
	for _, e := range entries {
		if m.entry(&e) {
			kept = append(kept, e)
		}
	}
	return kept
}

// clearBit clears one bit of an address.
func clearBit(a netip.Addr, bit int) netip.Addr {
	b := a.AsSlice()
	b[bit/8] &^= 0x80 >> (bit % 8)
	cleared, _ := netip.AddrFromSlice(b)
	return cleared
}

// mutants are faults that a plane may well have. Each must be found.
var mutants = map[string]mutant{
	"longest prefix off by one": {packet: func(p *plane.Packet) {
		if p.Dst.Is4() && strings.HasPrefix(p.Dst.String(), "10") {
			p.Dst = clearBit(p.Dst, 31)
		}
	}},
	"longest prefix in IPv6 by the first 64 bits": {entry: func(e *plane.Entry) bool {
		return !e.Subnet.Prefix.IsValid() || e.Subnet.Prefix.Bits() <= 64
	}},
	"the default route is lost": {entry: func(e *plane.Entry) bool {
		return !e.Subnet.Prefix.IsValid() || e.Subnet.Prefix.Bits() > 0
	}},
	"backup ignored":   {entry: func(e *plane.Entry) bool { e.Target.Backup = 0; return true }},
	"port key ignored": {entry: func(e *plane.Entry) bool { return e.Endpoint.Port == 0 }},
	"NoPort forgotten": {entry: func(e *plane.Entry) bool { return e.Delete || e.Target.Drop != plane.DropNoPort }},
	"NoPort taken for a drop of all": {entry: func(e *plane.Entry) bool {
		if e.Target.Drop == plane.DropNoPort {
			e.Target.Drop = plane.DropUnplaced
		}
		return true
	}},
	"a delete lost": {entry: func(e *plane.Entry) bool { return !e.Delete || e.Endpoint.Addr != netip.MustParseAddr("203.0.113.3") }},
	"deletes before sets": {update: func(m *mutant, u plane.Update) error {
		deletes := slices.DeleteFunc(slices.Clone(u.Entries), func(e plane.Entry) bool { return !e.Delete })
		sets := slices.DeleteFunc(slices.Clone(u.Entries), func(e plane.Entry) bool { return e.Delete })
		if err := m.Plane.Apply(context.Background(), plane.Update{Config: u.Config, Entries: deletes}); err != nil {
			return err
		}
		return m.Plane.Apply(context.Background(), plane.Update{Entries: sets})
	}},
	"Replace leaves what was there": {replace: func(m *mutant, c plane.Config, entries []plane.Entry) error {
		if len(entries) == 0 {
			return m.Plane.Replace(context.Background(), c, slices.Values(entries))
		}
		return m.Plane.Apply(context.Background(), plane.Update{Config: &c, Entries: entries})
	}},
	"a death ignored": {alive: func(*mutant, affinity.Index, bool) error { return nil }},
	"a death undone by the next configuration": {config: func(c *plane.Config) {
		for i := range c.RealServers {
			c.RealServers[i].Alive = true
		}
	}},
	"own addresses forgotten": {config: func(c *plane.Config) { c.Own = nil }},
	"covers forgotten": {config: func(c *plane.Config) {
		for i := range c.Tenants {
			c.Tenants[i].Covers = nil
		}
	}},
	"the last port of a range left out": {config: func(c *plane.Config) {
		for i, s := range c.Services {
			c.Services[i].Match = slices.Clone(s.Match)
			for j, r := range s.Match {
				c.Services[i].Match[j].Hi = max(r.Lo, r.Hi-1)
			}
		}
	}},
	"the ring's backup ignored": {config: func(c *plane.Config) {
		for i, s := range c.Services {
			c.Services[i].Ring = slices.Clone(s.Ring)
			for j := range s.Ring {
				c.Services[i].Ring[j].Backup = 0
			}
		}
	}},
	"path MTU ignored": {config: func(c *plane.Config) {
		for i := range c.RealServers {
			c.RealServers[i].MTU = 0
		}
	}},
	"MTU off by one": {packet: func(p *plane.Packet) { p.Size = max(0, p.Size-1) }},
	"ICMP errors not turned round": {packet: func(p *plane.Packet) {
		if p.Inner != nil {
			inner := *p.Inner
			inner.SrcPort, inner.DstPort = inner.DstPort, inner.SrcPort
			p.Inner = &inner
		}
	}},
	"later fragments given port 0": {packet: func(p *plane.Packet) { p.Fragment = plane.Whole }},
	"first fragments without port": {packet: func(p *plane.Packet) {
		if p.Fragment == plane.First {
			p.Fragment = plane.Later
		}
	}},
	"hop limit 1 forwarded":         {packet: func(p *plane.Packet) { p.Hops *= 2 }},
	"loops forwarded":               {packet: func(p *plane.Packet) { p.From = 0 }},
	"tags ignored":                  {packet: func(p *plane.Packet) { p.VLAN = 0 }},
	"other MACs taken":              {packet: func(p *plane.Packet) { p.OtherMAC = false }},
	"mapped addresses taken for v4": {packet: func(p *plane.Packet) { p.Dst, p.Src = p.Dst.Unmap(), p.Src.Unmap() }},
	"class E taken for a source": {packet: func(p *plane.Packet) {
		if p.Src.Is4() && p.Src.As4()[0] == 240 {
			p.Src = netip.MustParseAddr("203.0.113.250")
		}
	}},
	"a hashed packet not told": {decision: func(d *plane.Decision) { d.Hashed = false }},
}

func TestMutants(t *testing.T) {
	for name, m := range mutants {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m.Plane = mem.New(DefaultInterfaces())
			opt := Options{Histories: 200, Seed: 1, Open: func(testing.TB) plane.Plane { return &m }}.withDefaults()
			f, _ := search(t, &opt)
			if f == nil {
				t.Fatalf("not found in %d histories", opt.Histories)
			}
			if f.note != "" || len(f.small) == 0 {
				t.Errorf("found, but not shrunk: %v", f)
			}
			t.Logf("history %d of %d; %d steps left of %d", f.seed, opt.Histories, len(f.small), f.at+1)
		})
	}
}

// A plane that comes back empty has adopted nothing.
func TestRestartMutant(t *testing.T) {
	opt := Options{Histories: 50, Seed: 1, Open: func(testing.TB) plane.Plane { return mem.New(DefaultInterfaces()) }}.withDefaults()
	f, _ := search(t, &opt)
	if f == nil {
		t.Fatal("a plane that forgets all at a restart was not found")
	}
	if last := f.small[len(f.small)-1]; last.kind != restart {
		t.Errorf("the shrunk history ends with %v, want a restart", last)
	}
}

func TestSeedIsTheHistory(t *testing.T) {
	say := func(seed uint64) string {
		opt := Options{}.withDefaults()
		var b strings.Builder
		for _, s := range history(&opt, seed) {
			b.WriteString(s.String())
			for _, p := range s.packets {
				b.WriteString(sayPacket(p))
			}
		}
		return b.String()
	}
	if once, again := say(7), say(7); once != again {
		t.Error("one seed made two histories")
	}
	if say(7) == say(8) {
		t.Error("two seeds made one history")
	}
}

func TestCaps(t *testing.T) {
	caps := Caps{Methods: []affinity.Method{affinity.DR}, NoIPv6: true, NoVLANs: true, NoRing: true, NoFragments: true, NoICMP: true, NoRestart: true}
	opt := Options{Caps: caps}.withDefaults()
	for seed := range uint64(20) {
		for _, s := range history(&opt, seed) {
			if s.kind == restart {
				t.Fatal("a restart")
			}
			for _, p := range s.packets {
				if p.Dst.Is6() || p.VLAN != 0 || p.Fragment != plane.Whole || p.Inner != nil {
					t.Fatalf("packet %s", sayPacket(p))
				}
			}
			if s.update.Config == nil {
				continue
			}
			for _, rs := range s.update.Config.RealServers {
				if rs.Method != affinity.DR || rs.VLANs != nil {
					t.Fatalf("real server %+v", rs)
				}
			}
			for _, sv := range s.update.Config.Services {
				if sv.Ring != nil {
					t.Fatal("a ring")
				}
			}
		}
	}
}

func TestEnvironment(t *testing.T) {
	env := func(seed, histories string) func(string) string {
		return func(k string) string {
			return map[string]string{"PLANETEST_SEED": seed, "PLANETEST_HISTORIES": histories}[k]
		}
	}
	for _, row := range []struct {
		seed, histories string
		want            int
		wrong           bool
	}{{"", "", 5, false}, {"9", "", 1, false}, {"9", "70", 70, false}, {"", "70", 70, false}, {"x", "", 0, true}, {"", "-1", 0, true}} {
		o := Options{Histories: 5}
		err := o.fromEnvironment(env(row.seed, row.histories))
		if (err != nil) != row.wrong || err == nil && o.Histories != row.want {
			t.Errorf("%+v: %d histories, %v", row, o.Histories, err)
		}
		if row.seed == "9" && o.Seed != 9 || o.Seed == 0 {
			t.Errorf("%+v: seed %d", row, o.Seed)
		}
	}
}
