package xdp

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
)

// A bottleneck is what is too narrow for IPIP: an interface, a route by it, or the path that the configuration tells of.
type bottleneck struct {
	iface string
	mtu   int
	what  bottleneckKind
}

type bottleneckKind uint8

const (
	narrowInterface bottleneckKind = iota
	narrowRoute
	narrowPath
)

// mtuCheck gathers the bottlenecks of one look. IPIP cannot fragment, so each path must carry the longest packet that may come
// from a site, and the outer header.
type mtuCheck struct {
	widest iface // of those with the role tunnel
	need   map[bottleneck]int
	names  map[bottleneck][]string // of real servers
}

func newMTUCheck(ifaces []iface) *mtuCheck {
	c := &mtuCheck{need: map[bottleneck]int{}, names: map[bottleneck][]string{}}
	for _, i := range ifaces {
		if i.Roles&plane.RoleTunnel != 0 && !i.away && i.mtu > c.widest.mtu {
			c.widest = i
		}
	}
	return c
}

// see takes in that rs is reached by IPIP of one family the way w.
func (c *mtuCheck) see(rs plane.RealServer, w way, v6 bool) {
	own := slices.ContainsFunc(rs.Addrs, func(a netip.Addr) bool { return a.Is6() == v6 })
	if rs.Method != affinity.IPIP || !own || w.iface.mtu == 0 {
		return
	}
	b := bottleneck{w.iface.Name, w.iface.mtu, narrowInterface}
	if w.mtu < b.mtu {
		b.mtu, b.what = w.mtu, narrowRoute
	}
	if rs.MTU > 0 && rs.MTU < b.mtu {
		b.mtu, b.what = rs.MTU, narrowPath
	}
	need := c.widest.mtu + 20
	if v6 {
		need += 20
	}
	if need <= b.mtu {
		return
	}
	c.need[b] = max(c.need[b], need)
	if name := rs.Name; !slices.Contains(c.names[b], name) {
		c.names[b] = append(c.names[b], name)
	}
}

func (c *mtuCheck) sentences() []string {
	var out []string
	for b, need := range c.need {
		what := map[bottleneckKind]string{
			narrowInterface: fmt.Sprintf("interface %s has an MTU of %d", b.iface, b.mtu),
			narrowRoute:     fmt.Sprintf("a route by interface %s has an MTU of %d", b.iface, b.mtu),
			narrowPath:      fmt.Sprintf("by the configuration, a path by interface %s has an MTU of %d", b.iface, b.mtu),
		}[b.what]
		remedy := map[bottleneckKind]string{
			narrowInterface: fmt.Sprintf("ip link set dev %s mtu %d, and the same on the way to them", b.iface, need),
			narrowRoute:     fmt.Sprintf("let the route have mtu %d (ip route show dev %s)", need, b.iface),
			narrowPath:      fmt.Sprintf("let their mtu be %d in the configuration, once all on the way to them carries it (ip link set dev %s mtu %d)", need, b.iface, need),
		}[b.what]
		out = append(out, fmt.Sprintf("%s, but method tunnel needs %d for the MTU of %d of interface %s and the outer header; longer packets to %s are dropped. %s",
			what, need, c.widest.mtu, c.widest.Name, some(c.names[b]), remedy))
	}
	return out
}

// some names a few.
func some(names []string) string {
	const few = 3
	names = slices.Sorted(slices.Values(names))
	if len(names) > few {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:few], ", "), len(names)-few)
	}
	return strings.Join(names, ", ")
}
