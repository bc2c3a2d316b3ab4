package vip

import (
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"tunneldirector/director/vip/ruleset"
)

// TableName is the filter's table, family inet.
const TableName = "tunneldirector"

// Names inside the table. People see them in `nft list table inet tunneldirector`.
const (
	chainInput   = "input"
	chainForward = "forward"
	chainVIP4    = "vip4"
	chainVIP6    = "vip6"
	setVIP4      = "vips4"
	setVIP6      = "vips6"
	setCover4    = "covers4"
	setCover6    = "covers6"
	setRouted    = "routed"
	counterInput = "vip_input"
	counterFwd   = "vip_forward"
	counterCover = "cover_forward"
)

// layout names the rules below.
const layout = "td2"

// priority is after IPVS's hooks on LOCAL_IN, 98 and 99.
const priority nftables.ChainPriority = 110

func structure() *ruleset.Table {
	t := ruleset.New(TableName, layout)
	t.Counter(counterInput, counterFwd, counterCover)
	t.Set(setVIP4, nftables.TypeIPAddr)
	t.Set(setVIP6, nftables.TypeIP6Addr)
	t.Ranges(setCover4, nftables.TypeIFName, nftables.TypeIPAddr)
	t.Ranges(setCover6, nftables.TypeIFName, nftables.TypeIP6Addr)
	t.Set(setRouted, nftables.TypeIFName)

	vip4, vip6 := t.Chain(chainVIP4), t.Chain(chainVIP6)
	input, forward := t.Hook(chainInput, nftables.ChainHookInput, priority), t.Hook(chainForward, nftables.ChainHookForward, priority)

	t.Rule(vip4, control(unix.IPPROTO_ICMP, 8), ruleset.Accept())
	t.Rule(vip4, ruleset.Drop(counterInput))
	t.Rule(vip6, control(unix.IPPROTO_ICMPV6, 128), ruleset.Accept()) // echo request
	t.Rule(vip6, control(unix.IPPROTO_ICMPV6, 135), ruleset.Accept()) // neighbour solicitation
	t.Rule(vip6, control(unix.IPPROTO_ICMPV6, 136), ruleset.Accept()) // neighbour advertisement
	t.Rule(vip6, ruleset.Drop(counterInput))
	t.Rule(input, toVIP(4, setVIP4), ruleset.Jump(vip4))
	t.Rule(input, toVIP(6, setVIP6), ruleset.Jump(vip6))
	t.Rule(forward, toVIP(4, setVIP4), ruleset.Drop(counterFwd))
	t.Rule(forward, toVIP(6, setVIP6), ruleset.Drop(counterFwd))
	t.Rule(forward, toCover(4, setCover4), ruleset.Without(setRouted, ruleset.Out()), ruleset.Drop(counterCover))
	t.Rule(forward, toCover(6, setCover6), ruleset.Without(setRouted, ruleset.Out()), ruleset.Drop(counterCover))
	return t
}

// control matches one ICMP type.
func control(proto, icmpType byte) []expr.Any {
	return slices.Concat(ruleset.Is(ruleset.Protocol(), proto), ruleset.Is(ruleset.Transport(0, 1), icmpType))
}

func toVIP(v int, set string) []expr.Any {
	return append(ruleset.Family(v), ruleset.Within(set, ruleset.Dst(v))...)
}

func toCover(v int, set string) []expr.Any {
	return append(ruleset.Family(v), ruleset.Within(set, ruleset.In(), ruleset.Dst(v))...)
}

// elements are w's members of each set, by the set's name.
func (w Wanted) elements() map[string]ruleset.Elements {
	m := map[string]ruleset.Elements{setVIP4: {}, setVIP6: {}, setCover4: {}, setCover6: {}, setRouted: {}}
	for _, a := range w.VIPs {
		if a.Is4() {
			m[setVIP4].Add(a.AsSlice())
		} else {
			m[setVIP6].Add(a.AsSlice())
		}
	}
	for ifname, covers := range w.SubnetInterfaces {
		for _, p := range outermost(covers) {
			name := setCover6
			if p.Addr().Is4() {
				name = setCover4
			}
			m[name].AddRange(append(ruleset.Name(ifname), p.Addr().AsSlice()...), append(ruleset.Name(ifname), lastAddr(p).AsSlice()...))
		}
	}
	for _, ifname := range w.Routed {
		m[setRouted].Add(ruleset.Name(ifname))
	}
	return m
}
