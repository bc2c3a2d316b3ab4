package planetest

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
)

// A world is what the director of a history wants at the moment. All choices come from rng; slices, not maps, hold
// what is chosen from, so that a seed is a history.
type world struct {
	opt      *Options
	rng      *rand.Rand
	services []plane.Service
	tenants  []plane.Tenant
	servers  []plane.RealServer
	own      []netip.Addr
	entries  []plane.Entry
	gone     []plane.Entry // deleted of late: packets must not find them
	tags     []string      // tenants that an interface names, the default one first
}

func newWorld(opt *Options, seed uint64) *world {
	w := &world{opt: opt, rng: rand.New(rand.NewPCG(seed, 0x7d)), tags: []string{""}}
	for _, i := range opt.Interfaces {
		names := []string{i.Tenant}
		for _, n := range i.VLANs {
			names = append(names, n)
		}
		slices.Sort(names)
		for _, n := range names {
			if !slices.Contains(w.tags, n) {
				w.tags = append(w.tags, n)
			}
		}
	}
	return w
}

func pick[T any](w *world, from []T) T { return from[w.rng.IntN(len(from))] }

// chance is true once in n.
func (w *world) chance(n int) bool { return w.rng.IntN(n) == 0 }

// The pools are small, so that keys meet again and packets hit them.

func (w *world) v6() bool { return !w.opt.Caps.NoIPv6 && w.chance(2) }

func (w *world) vip() netip.Addr {
	return numbered(w.v6(), "192.0.2.0", "2001:db8::", 1+w.rng.IntN(5))
}

func (w *world) endpoint(v6 bool) netip.Addr {
	if v6 && w.chance(3) { // same last word, another network
		return numbered(true, "", "2001:db8:e::", 1+w.rng.IntN(6))
	}
	return numbered(v6, "203.0.113.0", "2001:db8:f::", 1+w.rng.IntN(10))
}

func (w *world) port() uint16 {
	return pick(w, []uint16{500, 4500, 4001, 4002, 5000, 5001, 5999, 51820, 1, 65535})
}

// inside is an address of the subnets' space, near where prefixes of all lengths begin and end.
func (w *world) inside(v6 bool) netip.Addr {
	base := pick(w, []netip.Addr{netip.MustParseAddr("100.64.0.0"), netip.MustParseAddr("100.64.129.200"), netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("10.1.255.255")})
	if v6 {
		base = pick(w, []netip.Addr{netip.MustParseAddr("2001:db8:b::"), netip.MustParseAddr("2001:db8:b:1:8000::1"), netip.MustParseAddr("2001:db8:c:ffff:ffff:ffff:ffff:ffff")})
	}
	b := base.AsSlice()
	if w.chance(2) {
		bit := w.rng.IntN(len(b) * 8)
		b[bit/8] ^= 0x80 >> (bit % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

func (w *world) prefix() netip.Prefix {
	a := w.inside(w.v6())
	bits := pick(w, []int{8, 9, 10, 12, 15, 16, 17, 20, 23, 24, 25, 28, 30, 31, 32})
	if a.Is6() {
		bits = pick(w, []int{16, 31, 32, 33, 47, 48, 49, 56, 63, 64, 65, 80, 96, 112, 120, 126, 127, 128})
	}
	if w.chance(60) {
		bits = 0
	}
	return netip.PrefixFrom(a, bits).Masked()
}

func numbered(v6 bool, four, six string, n int) netip.Addr {
	if v6 {
		b := netip.MustParseAddr(six).As16()
		b[15] = byte(n)
		return netip.AddrFrom16(b)
	}
	b := netip.MustParseAddr(four).As4()
	b[3] = byte(n)
	return netip.AddrFrom4(b)
}

// config is a copy of the world's configuration that the world does not write again.
func (w *world) config() plane.Config {
	return plane.Config{Services: slices.Clone(w.services), Tenants: slices.Clone(w.tenants),
		RealServers: slices.Clone(w.servers), Own: slices.Clone(w.own)}
}

// index is a known one mostly, else one that nobody knows, else none.
func (w *world) index() affinity.Index {
	switch {
	case w.chance(12):
		return 0
	case w.chance(12) || len(w.servers) == 0:
		return affinity.Index(1 + w.rng.IntN(20))
	}
	return pick(w, w.servers).Index
}

func (w *world) target() plane.Target {
	if w.chance(10) {
		return plane.Target{Drop: pick(w, []plane.Reason{plane.DropUnplaced, plane.DropContested})}
	}
	return plane.Target{Primary: w.index(), Backup: w.index()}
}

// put sets e in the world's own book.
func (w *world) put(e plane.Entry) {
	w.entries = append(slices.DeleteFunc(w.entries, func(o plane.Entry) bool { return sameKey(o, e) }), e)
}

// cut deletes e there.
func (w *world) cut(e plane.Entry) {
	if w.gone = append(w.gone, e); len(w.gone) > 8 {
		w.gone = w.gone[1:]
	}
	w.entries = slices.DeleteFunc(w.entries, func(o plane.Entry) bool { return sameKey(o, e) })
}

func sameKey(a, b plane.Entry) bool { return a.Endpoint == b.Endpoint && a.Subnet == b.Subnet }

func describe(e plane.Entry) string {
	key := fmt.Sprintf("subnet %v of tenant %d", e.Subnet.Prefix, e.Subnet.Tenant)
	if e.Endpoint.VIP.IsValid() {
		key = fmt.Sprintf("endpoint %v port %d at %v", e.Endpoint.Addr, e.Endpoint.Port, e.Endpoint.VIP)
	}
	switch {
	case e.Delete:
		return "delete " + key
	case e.Target.Drop != plane.None:
		return fmt.Sprintf("%s -> %v", key, e.Target.Drop)
	}
	return fmt.Sprintf("%s -> %d, else %d", key, e.Target.Primary, e.Target.Backup)
}
