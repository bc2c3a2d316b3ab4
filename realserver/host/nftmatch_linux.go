package host

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// A flow is packets that have to get through. What is not known of them may be anything.
type flow struct {
	what     string
	hooks    []*nftables.ChainHook
	v6       bool
	iif      string // "" for what the host sends
	index    int
	proto    uint8 // 0: not known
	src, dst netip.Addr
	port     uint16 // destination; 0: not known
	local    bool   // the destination is the host
}

// A truth is one of three.
type truth int

const (
	no truth = iota
	maybe
	yes
)

func truthOf(b bool) truth {
	if b {
		return yes
	}
	return no
}

func (t truth) not() truth { return yes - t }

// A value is what is in a register; nil bytes are not known.
type value struct {
	b       []byte
	ctState bool
	masked  uint32 // of a conntrack state
}

// conntrack's states, by bit (NF_CT_STATE_BIT in include/uapi/linux/netfilter/nf_conntrack_common.h).
const (
	ctInvalid = 1
	ctNew     = 8
)

// A machine runs the expressions of one rule over a flow, as far as they are known.
type machine struct {
	*walk
	table        *nftables.Table
	regs         map[uint32]value
	match        truth
	verdicts     []reached
	onlyInvalid  bool
	dropsInvalid bool
}

// A reached verdict, and whether the flow matches what stands before it.
type reached struct {
	expr.Verdict
	match truth
}

// register numbers 1 to 4 are of 16 bytes, 8 to 23 the same of 4.
func register(n uint32) uint32 {
	if n >= 1 && n <= 4 {
		return 8 + 4*(n-1)
	}
	return n
}

func (m *machine) and(t truth) { m.match = min(m.match, t) }

func (m *machine) run(list []expr.Any) {
	for _, e := range list {
		switch e := e.(type) {
		case *expr.Meta:
			if !e.SourceRegister {
				m.load(e.Register, value{b: m.meta(e.Key)})
			}
		case *expr.Payload:
			if e.OperationType == expr.PayloadLoad {
				m.load(e.DestRegister, value{b: m.payload(e)})
			}
		case *expr.Ct:
			if !e.SourceRegister {
				v := value{}
				if e.Key == expr.CtKeySTATE {
					v = value{b: binary.NativeEndian.AppendUint32(nil, ctNew), ctState: true, masked: ^uint32(0)}
				}
				m.load(e.Register, v)
			}
		case *expr.Fib:
			v := value{}
			if e.ResultADDRTYPE && e.FlagDADDR && m.flow.local {
				v.b = binary.NativeEndian.AppendUint32(nil, unix.RTN_LOCAL)
			}
			m.load(e.Register, v)
		case *expr.Bitwise:
			m.load(e.DestRegister, mask(m.regs[register(e.SourceRegister)], e))
		case *expr.Cmp:
			m.compare(e)
		case *expr.Range:
			m.between(e)
		case *expr.Lookup:
			m.lookup(e)
		case *expr.Verdict:
			m.decide(*e, m.match)
		case *expr.Reject:
			m.decide(expr.Verdict{Kind: expr.VerdictDrop}, m.match)
		case *expr.Target:
			if e.Name == "REJECT" || e.Name == "DROP" {
				m.decide(expr.Verdict{Kind: expr.VerdictDrop}, m.match)
			}
		case *expr.Immediate, *expr.Hash, *expr.Numgen, *expr.Exthdr:
			clear(m.regs)
		case *expr.Match, *expr.Limit, *expr.Quota, *expr.Connlimit, *expr.Dynset:
			m.and(maybe)
		}
	}
}

func (m *machine) decide(v expr.Verdict, match truth) {
	if v.Kind == expr.VerdictDrop && m.onlyInvalid {
		m.dropsInvalid = true
	}
	m.verdicts = append(m.verdicts, reached{v, match})
}

func (m *machine) load(reg uint32, v value) { m.regs[register(reg)] = v }

func (m *machine) meta(key expr.MetaKey) []byte {
	f := m.flow
	switch key {
	case expr.MetaKeyIIFNAME:
		b := make([]byte, unix.IFNAMSIZ)
		copy(b, f.iif)
		return b
	case expr.MetaKeyIIF:
		return binary.NativeEndian.AppendUint32(nil, uint32(f.index))
	case expr.MetaKeyNFPROTO:
		if f.v6 {
			return []byte{unix.NFPROTO_IPV6}
		}
		return []byte{unix.NFPROTO_IPV4}
	case expr.MetaKeyPROTOCOL:
		if f.v6 {
			return binary.BigEndian.AppendUint16(nil, unix.ETH_P_IPV6)
		}
		return binary.BigEndian.AppendUint16(nil, unix.ETH_P_IP)
	case expr.MetaKeyL4PROTO:
		if f.proto != 0 {
			return []byte{f.proto}
		}
	}
	return nil
}

// payload knows the fields of the headers that a flow has.
func (m *machine) payload(e *expr.Payload) []byte {
	f := m.flow
	if e.Base == expr.PayloadBaseTransportHeader {
		if e.Offset == 2 && e.Len == 2 && f.port != 0 && (f.proto == unix.IPPROTO_UDP || f.proto == unix.IPPROTO_TCP) {
			return binary.BigEndian.AppendUint16(nil, f.port)
		}
		return nil
	}
	if e.Base != expr.PayloadBaseNetworkHeader {
		return nil
	}
	src, dst, next := uint32(12), uint32(16), uint32(9)
	if f.v6 {
		src, dst, next = 8, 24, 6
	}
	part := func(a netip.Addr, at uint32) []byte {
		if !a.IsValid() || e.Offset != at || int(e.Len) > len(a.AsSlice()) {
			return nil
		}
		return a.AsSlice()[:e.Len]
	}
	switch {
	case e.Offset == next && e.Len == 1 && f.proto != 0:
		return []byte{f.proto}
	case e.Offset == src:
		return part(f.src, src)
	default:
		return part(f.dst, dst)
	}
}

func mask(v value, e *expr.Bitwise) value {
	if len(v.b) != len(e.Mask) || len(e.Xor) != len(e.Mask) {
		return value{}
	}
	out := value{b: slices.Clone(v.b), ctState: v.ctState}
	for i := range out.b {
		out.b[i] = out.b[i]&e.Mask[i] ^ e.Xor[i]
	}
	if v.ctState && len(e.Mask) == 4 {
		out.masked = binary.NativeEndian.Uint32(e.Mask)
	}
	return out
}

func (m *machine) compare(e *expr.Cmp) {
	v, ok := m.regs[register(e.Register)]
	if e.Op == expr.CmpOpEq || e.Op == expr.CmpOpNeq {
		// A kind of expression that the library does not know would load the register anew without a word.
		defer delete(m.regs, register(e.Register))
		if v.ctState && (v.masked == ctInvalid && e.Op == expr.CmpOpNeq || e.Op == expr.CmpOpEq && bytes.Equal(e.Data, binary.NativeEndian.AppendUint32(nil, ctInvalid))) {
			m.onlyInvalid = true
		}
	}
	if !ok || v.b == nil || len(v.b) < len(e.Data) {
		m.and(maybe)
		return
	}
	c := bytes.Compare(v.b[:len(e.Data)], e.Data) // a name may be compared by its beginning
	m.and(truthOf(map[expr.CmpOp]bool{expr.CmpOpEq: c == 0, expr.CmpOpNeq: c != 0, expr.CmpOpLt: c < 0, expr.CmpOpLte: c <= 0,
		expr.CmpOpGt: c > 0, expr.CmpOpGte: c >= 0}[e.Op]))
}

func (m *machine) between(e *expr.Range) {
	v := m.regs[register(e.Register)]
	if len(v.b) != len(e.FromData) || v.b == nil {
		m.and(maybe)
		return
	}
	in := bytes.Compare(v.b, e.FromData) >= 0 && bytes.Compare(v.b, e.ToData) <= 0
	m.and(truthOf(in == (e.Op == expr.CmpOpEq)))
}

// lookup is in a set, or in a map of verdicts.
func (m *machine) lookup(e *expr.Lookup) {
	v := m.regs[register(e.SourceRegister)]
	delete(m.regs, register(e.SourceRegister))
	s, err := m.set(m.table, e.SetName)
	if err != nil { // of a kind that the library cannot read
		m.and(maybe)
		return
	}
	list := s.elements
	known := v.b != nil && (len(list) == 0 || len(list[0].Key) == len(v.b))
	toVerdict := e.IsDestRegSet && e.DestRegister == unix.NFT_REG_VERDICT
	for _, el := range list {
		if verdict, ok := verdictOf(&el); toVerdict && ok && v.ctState && verdict.Kind == expr.VerdictDrop && bytes.Equal(el.Key, binary.NativeEndian.AppendUint32(nil, ctInvalid)) {
			m.dropsInvalid = true
		}
	}
	switch {
	case toVerdict && known:
		if verdict, ok := verdictOf(s.find(v.b)); ok {
			m.decide(verdict, m.match)
		}
	case toVerdict:
		for _, el := range list {
			if verdict, ok := verdictOf(&el); ok {
				m.decide(verdict, min(m.match, maybe))
			}
		}
	case e.IsDestRegSet:
		m.load(e.DestRegister, value{})
	case known:
		if found := truthOf(s.find(v.b) != nil); e.Invert {
			m.and(found.not())
		} else {
			m.and(found)
		}
	default:
		m.and(maybe)
	}
}

// verdictOf is a map's element's: the library leaves it as it came (NFTA_DATA_VERDICT).
func verdictOf(el *nftables.SetElement) (v expr.Verdict, ok bool) {
	if el == nil {
		return v, false
	}
	ad, err := netlink.NewAttributeDecoder(el.Val)
	if err != nil {
		return v, false
	}
	ad.ByteOrder = binary.BigEndian
	for ad.Next() {
		switch ad.Type() {
		case unix.NFTA_VERDICT_CODE:
			v.Kind, ok = expr.VerdictKind(ad.Int32()), true
		case unix.NFTA_VERDICT_CHAIN:
			v.Chain = ad.String()
		}
	}
	return v, ok && ad.Err() == nil
}
