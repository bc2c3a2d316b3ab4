package gate

import (
	"encoding/binary"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"tunneldirector/director/plane"
	"tunneldirector/director/vip/ruleset"
)

// TableName is the gate's table, family inet.
const TableName = "tunneldirector-ipvs"

// The layouts name the rules below, with those that show packets and without.
const (
	layout     = "gate3"
	layoutMute = "gate3-mute"
)

// Priorities. IPVS has 98 and 99 of LOCAL_IN, the filter of the VIPs has 110 of LOCAL_IN and FORWARD.
const (
	beforeIPVS  nftables.ChainPriority = 90
	afterIPVS   nftables.ChainPriority = 105
	afterFilter nftables.ChainPriority = 120
	beforeAll   nftables.ChainPriority = -300 // before anybody who sorts packets by their priority
)

// Names inside the table. People see them in `nft list table inet tunneldirector-ipvs`.
const (
	counterRole     = "no_role"
	counterSource   = "bad_source"
	counterICMP     = "icmp"
	counterService  = "no_service"
	counterPort     = "no_port"
	counterUnknown  = "unknown_endpoint"
	counterLoop     = "loop"
	counterSubnet   = "subnet"
	counterSeal     = "sealed"
	counterRedirect = "redirect"

	setTunnel = "tunnel" // interfaces
	setSubnet = "subnet"
	setRouted = "routed" // from a subnet interface, to a real servers' interface
	setSealed = "sealed"
	setMACs   = "macs"  // of neighbours
	setMarks  = "marks" // of the same
)

// drops are the reasons for which the gate drops packets of tunnels and of subnets.
var drops = []drop{
	{counterRole, plane.DropRole}, {counterSource, plane.DropSource}, {counterICMP, plane.DropICMP},
	{counterService, plane.DropNoService}, {counterPort, plane.DropNoPort}, {counterUnknown, plane.DropUnknown},
	{counterLoop, plane.DropLoop},
}

type drop struct {
	counter string
	reason  plane.Reason
}

// The sets that each family has.
func setVIPs(v int) string   { return name("vips", v) }
func setOurs(v int) string   { return name("ours", v) }      // addresses that nobody else can have
func setPorts(v int) string  { return name("udp", v) }       // what UDP gets in: by which interface, to which VIP and port
func setProtos(v int) string { return name("protocols", v) } // the same for protocols without ports
func setNoPort(v int) string { return name("noport", v) }

func setLoops(v int) string { return name("loops", v) } // the next hop, and the mark of its MAC address

func name(what string, v int) string { return what + string(rune('0'+v)) }

// A side is one family's part of the rules.
type side struct {
	v                     int
	icmp                  byte   // its number as a protocol
	control, errors       []byte // ICMP types
	unreachable, redirect []byte // port unreachable: type and code; redirect: type
	lies                  []lie
}

// A lie is a range of sources that there cannot be.
type lie struct{ mask, value []byte }

// The other sources that rule 5 names (0.0.0.0, ::1, multicast) never get as far: the kernel drops them when it routes
// (ip_route_input_slow), or at once (ip6_rcv_core).
var sides = []side{
	{4, unix.IPPROTO_ICMP, []byte{8}, []byte{3, 11, 12}, []byte{3, 3}, []byte{5},
		[]lie{{[]byte{255, 0, 0, 0}, []byte{127, 0, 0, 0}}, {[]byte{240, 0, 0, 0}, []byte{240, 0, 0, 0}}}},
	{6, unix.IPPROTO_ICMPV6, []byte{128, 135, 136}, []byte{1, 2, 3, 4}, []byte{1, 4}, []byte{137},
		[]lie{{nil, make([]byte, 16)}}},
}

// rules are those of the table, and drop the chains in which packets are shown, counted and dropped, by counter.
type rules struct {
	*ruleset.Table
	drop map[string]*nftables.Chain
}

// because drops for a reason.
func (t rules) because(counter string) []expr.Any { return ruleset.Jump(t.drop[counter]) }

// shown shows some of the packets that are dropped for a reason.
func shown(r plane.Reason) []expr.Any {
	return append(ruleset.Limit(shownDrops), ruleset.Log(Group, snapshot, r.String())...)
}

func structure(layout string, show func(plane.Reason) []expr.Any) *ruleset.Table {
	t := rules{ruleset.New(TableName, layout), map[string]*nftables.Chain{}}
	t.Counter(counterSubnet, counterSeal, counterRedirect)
	for _, name := range []string{setTunnel, setSubnet, setSealed} {
		t.Set(name, nftables.TypeIFName)
	}
	t.Set(setRouted, nftables.TypeIFName, nftables.TypeIFName)
	t.Set(setMACs, nftables.TypeEtherAddr)
	t.Set(setMarks, nftables.TypeMark)
	before := t.Hook("before_ipvs", nftables.ChainHookInput, beforeIPVS)
	after := t.Hook("after_ipvs", nftables.ChainHookInput, afterIPVS)
	forward := t.Hook("forward", nftables.ChainHookForward, afterFilter)
	output := t.Hook("output", nftables.ChainHookOutput, 0)
	leave := t.Hook("leave", nftables.ChainHookPostrouting, beforeAll)
	routed, back := t.Chain("routed"), t.Chain("back")
	for _, d := range drops {
		t.Counter(d.counter)
		c := t.Chain("drop_" + d.counter)
		if show != nil {
			t.Rule(c, show(d.reason))
		}
		t.Rule(c, ruleset.Drop(d.counter))
		t.drop[d.counter] = c
	}

	// Under tunnel a packet leaves twice, and has lost its frame's header when it leaves by Ethernet: so its sender is noted.
	t.Rule(before, ruleset.Within(setMACs, ruleset.Sender()), ruleset.Note(ruleset.SenderEnd()))
	t.Rule(routed, ruleset.Within(setMACs, ruleset.Sender()), ruleset.Note(ruleset.SenderEnd()))
	t.Rule(leave, ruleset.Within(setMarks, ruleset.Priority()), ruleset.Is(ruleset.OutKind(), etherKind()...), ruleset.Jump(back))
	t.Rule(forward, ruleset.Within(setRouted, ruleset.In(), ruleset.Out()), ruleset.Jump(routed))
	t.Rule(output, ruleset.Within(setSealed, ruleset.Out()), ruleset.Drop(counterSeal))
	for _, s := range sides {
		s.sets(t)
		source := s.source(t)
		t.Rule(before, ruleset.Family(s.v), ruleset.Jump(s.before(t, source)))
		t.Rule(after, s.toVIP(), ruleset.Jump(s.after(t)))
		t.Rule(routed, ruleset.Family(s.v), ruleset.Jump(source))
		t.Rule(output, ruleset.Family(s.v), ruleset.Is(ruleset.Protocol(), s.icmp), ruleset.Jump(s.told(t)))
		t.Rule(back, ruleset.Family(s.v), ruleset.Within(setLoops(s.v), ruleset.NextHop(s.v), ruleset.Priority()), t.because(counterLoop))
	}
	t.Rule(back, ruleset.NoteNothing())
	t.Rule(routed, ruleset.Count(counterSubnet))
	return t.Table
}

func (s side) sets(t rules) {
	addr := nftables.TypeIPAddr
	if s.v == 6 {
		addr = nftables.TypeIP6Addr
	}
	t.Set(setVIPs(s.v), addr)
	t.Set(setOurs(s.v), addr)
	t.Set(setPorts(s.v), nftables.TypeIFName, addr, nftables.TypeInetService)
	t.Set(setProtos(s.v), nftables.TypeIFName, addr, nftables.TypeInetProto)
	t.Set(setNoPort(s.v), addr, addr)
	t.Set(setLoops(s.v), addr, nftables.TypeMark)
}

// etherKind is Ethernet as the kind of an interface.
func etherKind() []byte { return binary.NativeEndian.AppendUint16(nil, unix.ARPHRD_ETHER) }

func (s side) toVIP() []expr.Any {
	return slices.Concat(ruleset.Family(s.v), ruleset.Within(setVIPs(s.v), ruleset.Dst(s.v)))
}

// source drops what lies about where it comes from.
func (s side) source(t rules) *nftables.Chain {
	c := t.Chain(name("source", s.v))
	t.Rule(c, ruleset.Within(setOurs(s.v), ruleset.Src(s.v)), t.because(counterSource))
	for _, l := range s.lies {
		t.Rule(c, ruleset.Is(ruleset.Masked(ruleset.Src(s.v), l.mask), l.value...), t.because(counterSource))
	}
	return c
}

// honest matches what source would not drop.
func (s side) honest() []expr.Any {
	e := ruleset.Without(setOurs(s.v), ruleset.Src(s.v))
	for _, l := range s.lies {
		e = append(e, ruleset.IsNot(ruleset.Masked(ruleset.Src(s.v), l.mask), l.value...)...)
	}
	return e
}

// before is input that IPVS has not yet seen. Two rules let the packets of tunnels through, with as few lookups as can be; what
// they leave is for nobody here, or is asked point by point why it is not to pass.
func (s side) before(t rules, source *nftables.Chain) *nftables.Chain {
	c, refuse, icmp := t.Chain(name("in", s.v)), t.Chain(name("refuse", s.v)), t.Chain(name("icmp", s.v))
	portless := []ruleset.Field{ruleset.In(), ruleset.Dst(s.v), ruleset.Protocol()}
	t.Rule(c, ruleset.Is(ruleset.Protocol(), protoUDP), ruleset.Within(setPorts(s.v), ruleset.In(), ruleset.Dst(s.v), ruleset.Transport(2, 2)),
		s.honest(), ruleset.Accept())
	t.Rule(c, ruleset.Within(setProtos(s.v), portless...), ruleset.Without(setNoPort(s.v), ruleset.Dst(s.v), ruleset.Src(s.v)),
		s.honest(), ruleset.Accept())
	t.Rule(c, ruleset.Within(setVIPs(s.v), ruleset.Dst(s.v)), ruleset.Jump(refuse))

	t.Rule(refuse, ruleset.Without(setTunnel, ruleset.In()), t.because(counterRole))
	t.Rule(refuse, ruleset.Jump(source))
	t.Rule(refuse, ruleset.Is(ruleset.Protocol(), s.icmp), ruleset.Jump(icmp))
	t.Rule(refuse, ruleset.Without(setProtos(s.v), portless...), t.because(counterService))
	t.Rule(refuse, t.because(counterPort))

	for _, kind := range slices.Concat(s.control, s.errors) {
		t.Rule(icmp, ruleset.Is(ruleset.Transport(0, 1), kind), ruleset.Accept())
	}
	t.Rule(icmp, t.because(counterICMP))
	return c
}

// after is what came to a VIP, and IPVS left.
func (s side) after(t rules) *nftables.Chain {
	c := t.Chain(name("left", s.v))
	for _, kind := range s.control {
		t.Rule(c, ruleset.Is(ruleset.Protocol(), s.icmp), ruleset.Is(ruleset.Transport(0, 1), kind), ruleset.Accept())
	}
	t.Rule(c, t.because(counterUnknown))
	return c
}

// told is what the kernel says about packets that were not forwarded, or not as they should have been sent.
func (s side) told(t rules) *nftables.Chain {
	c := t.Chain(name("told", s.v))
	t.Rule(c, ruleset.Is(ruleset.Transport(0, 2), s.unreachable...), ruleset.Within(setVIPs(s.v), ruleset.Src(s.v)), t.because(counterUnknown))
	t.Rule(c, ruleset.Is(ruleset.Transport(0, 1), s.redirect...), ruleset.Within(setSubnet, ruleset.Out()), ruleset.Drop(counterRedirect))
	return c
}
