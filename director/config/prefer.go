package config

import (
	"net/netip"

	"github.com/goccy/go-yaml/ast"

	"tunneldirector/affinity"
)

// prefers reads which directors are to hold an address, by address: {192.0.2.1: [d1, d2]}.
func (v value) prefers(dst *map[netip.Addr][]string) {
	v.pairs(func(key string, at ast.Node, x value) {
		a, err := netip.ParseAddr(key)
		if err != nil {
			v.r.Fault(x.path, at, "%q is not an IP address", key)
			return
		}
		if _, twice := (*dst)[a]; twice {
			v.r.Fault(x.path, at, "%s stands twice, in other words", a)
			return
		}
		x.directors(dst, a, at)
	})
}

// directors reads the names of those that are to hold a, the first one first.
func (v value) directors(dst *map[netip.Addr][]string, a netip.Addr, at ast.Node) {
	var names []string
	before := len(v.r.Faults)
	v.list(func(v value) {
		name := ""
		if v.name(&name) {
			names = append(names, name)
		}
	})
	if len(names) == 0 {
		if len(v.r.Faults) == before {
			v.r.Fault(v.path, at, "names no director; give at least one, or leave it out: then it goes by rank")
		}
		return
	}
	if *dst == nil {
		*dst = map[netip.Addr][]string{}
	}
	(*dst)[a] = names
}

// gateway reads {address: 198.51.100.1, prefer: [d1, d2]}.
func (v value) gateway(n *affinity.Tenant) {
	var a netip.Addr
	var prefer *value
	before := len(v.r.Faults)
	v.fields(
		field{"address", func(v value) { a, _ = v.addr() }},
		field{"prefer", func(v value) { prefer = &v }},
	)
	if !a.IsValid() {
		if len(v.r.Faults) == before {
			v.fault("lacks address")
		}
		return
	}
	n.Gateways = append(n.Gateways, a)
	if prefer != nil && prefer.node != nil {
		prefer.directors(&n.Prefer, a, prefer.node)
	}
}
