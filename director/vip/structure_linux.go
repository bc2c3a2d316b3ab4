package vip

import (
	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
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
	counterInput = "vip_input"
	counterFwd   = "vip_forward"
	counterCover = "cover_forward"
)

// layout names the rules below. Change it with them, and a start replaces the table of an older program.
const layout = "td1"

// priority is after IPVS's hooks on LOCAL_IN, 98 and 99.
const priority nftables.ChainPriority = 110

// A structure is everything in the table but the sets' elements.
type structure struct {
	table    *nftables.Table
	sets     []*nftables.Set
	chains   []*nftables.Chain
	counters []string
	rules    []*nftables.Rule // in order; UserData is their name
}

func newStructure() *structure {
	t := &nftables.Table{Name: TableName, Family: nftables.TableFamilyINet}
	s := &structure{table: t, counters: []string{counterInput, counterFwd, counterCover}}
	set := func(name string, key nftables.SetDatatype, cover bool) {
		s.sets = append(s.sets, &nftables.Set{Table: t, Name: name, KeyType: key, Interval: cover, Concatenation: cover,
			KeyByteOrder: binaryutil.BigEndian})
	}
	set(setVIP4, nftables.TypeIPAddr, false)
	set(setVIP6, nftables.TypeIP6Addr, false)
	set(setCover4, nftables.MustConcatSetType(nftables.TypeIFName, nftables.TypeIPAddr), true)
	set(setCover6, nftables.MustConcatSetType(nftables.TypeIFName, nftables.TypeIP6Addr), true)

	accept := nftables.ChainPolicyAccept
	hook := func(name string, h *nftables.ChainHook) *nftables.Chain {
		return &nftables.Chain{Name: name, Table: t, Hooknum: h, Priority: nftables.ChainPriorityRef(priority),
			Type: nftables.ChainTypeFilter, Policy: &accept}
	}
	vip4 := &nftables.Chain{Name: chainVIP4, Table: t}
	vip6 := &nftables.Chain{Name: chainVIP6, Table: t}
	input, forward := hook(chainInput, nftables.ChainHookInput), hook(chainForward, nftables.ChainHookForward)
	s.chains = []*nftables.Chain{vip4, vip6, input, forward}

	s.rule(vip4, control(unix.IPPROTO_ICMP, 8)...)
	s.rule(vip4, drop(counterInput)...)
	s.rule(vip6, control(unix.IPPROTO_ICMPV6, 128)...) // echo request
	s.rule(vip6, control(unix.IPPROTO_ICMPV6, 135)...) // neighbour solicitation
	s.rule(vip6, control(unix.IPPROTO_ICMPV6, 136)...) // neighbour advertisement
	s.rule(vip6, drop(counterInput)...)
	s.rule(input, append(toVIP(4, setVIP4), &expr.Verdict{Kind: expr.VerdictJump, Chain: chainVIP4})...)
	s.rule(input, append(toVIP(6, setVIP6), &expr.Verdict{Kind: expr.VerdictJump, Chain: chainVIP6})...)
	s.rule(forward, append(toVIP(4, setVIP4), drop(counterFwd)...)...)
	s.rule(forward, append(toVIP(6, setVIP6), drop(counterFwd)...)...)
	s.rule(forward, append(toCover(4, setCover4), drop(counterCover)...)...)
	s.rule(forward, append(toCover(6, setCover6), drop(counterCover)...)...)
	return s
}

func (s *structure) rule(c *nftables.Chain, e ...expr.Any) {
	name := []byte(layout + "-" + string(rune('a'+len(s.rules))))
	s.rules = append(s.rules, &nftables.Rule{Table: s.table, Chain: c, Exprs: e, UserData: name})
}

// control accepts one ICMP type.
func control(proto, icmpType byte) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: unix.NFT_REG_1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: unix.NFT_REG_1, Data: []byte{proto}},
		&expr.Payload{DestRegister: unix.NFT_REG_1, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: unix.NFT_REG_1, Data: []byte{icmpType}},
		&expr.Verdict{Kind: expr.VerdictAccept},
	}
}

func drop(counter string) []expr.Any {
	return []expr.Any{&expr.Objref{Type: unix.NFT_OBJECT_COUNTER, Name: counter}, &expr.Verdict{Kind: expr.VerdictDrop}}
}

func family(v int) []expr.Any {
	proto := byte(unix.NFPROTO_IPV4)
	if v == 6 {
		proto = unix.NFPROTO_IPV6
	}
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: unix.NFT_REG_1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: unix.NFT_REG_1, Data: []byte{proto}},
	}
}

func loadDst(v int, register uint32) *expr.Payload {
	if v == 6 {
		return &expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: 24, Len: 16}
	}
	return &expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4}
}

func toVIP(v int, set string) []expr.Any {
	return append(family(v), loadDst(v, unix.NFT_REG_1), &expr.Lookup{SourceRegister: unix.NFT_REG_1, SetName: set})
}

// toCover looks up interface name (16 bytes, register 1) and destination (register 2) together.
func toCover(v int, set string) []expr.Any {
	return append(family(v),
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: unix.NFT_REG_1},
		loadDst(v, unix.NFT_REG_2),
		&expr.Lookup{SourceRegister: unix.NFT_REG_1, SetName: set})
}
