package ruleset

import (
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// A Field is something of a packet that can be compared or looked up.
type Field struct {
	size uint32
	load func(register uint32) []expr.Any
}

func payload(base expr.PayloadBase, offset, size uint32) Field {
	return Field{size, func(r uint32) []expr.Any {
		return []expr.Any{&expr.Payload{DestRegister: r, Base: base, Offset: offset, Len: size}}
	}}
}

func meta(key expr.MetaKey, size uint32) Field {
	return Field{size, func(r uint32) []expr.Any { return []expr.Any{&expr.Meta{Key: key, Register: r}} }}
}

// Masked is a field with some of its bits taken for 0; without a mask it is the field.
func Masked(f Field, mask []byte) Field {
	if len(mask) == 0 {
		return f
	}
	return Field{f.size, func(r uint32) []expr.Any {
		return append(f.load(r), &expr.Bitwise{SourceRegister: r, DestRegister: r, Len: f.size, Mask: mask, Xor: make([]byte, len(mask))})
	}}
}

// Src is the source address of IPv4 (v is 4) or IPv6, Dst the destination. The rule must have matched the Family before.
func Src(v int) Field {
	if v == 4 {
		return payload(expr.PayloadBaseNetworkHeader, 12, 4)
	}
	return payload(expr.PayloadBaseNetworkHeader, 8, 16)
}

// Dst is the destination address: see Src.
func Dst(v int) Field {
	if v == 4 {
		return payload(expr.PayloadBaseNetworkHeader, 16, 4)
	}
	return payload(expr.PayloadBaseNetworkHeader, 24, 16)
}

// Transport are bytes of the transport header; a rule that looks at them matches no later fragment.
func Transport(offset, size uint32) Field {
	return payload(expr.PayloadBaseTransportHeader, offset, size)
}

// Sender is the source MAC address of the frame that a packet came in by. A rule that looks at it matches no packet of the node's own.
func Sender() Field { return payload(expr.PayloadBaseLLHeader, 6, 6) }

// SenderEnd are the last 4 bytes of Sender.
func SenderEnd() Field { return payload(expr.PayloadBaseLLHeader, 8, 4) }

// NextHop is the address of the neighbour that a packet which has been routed leaves to. The rule must have matched the Family before.
func NextHop(v int) Field {
	f := Field{4, func(r uint32) []expr.Any { return []expr.Any{&expr.Rt{Register: r, Key: expr.RtNexthop4}} }}
	if v == 6 {
		f = Field{16, func(r uint32) []expr.Any { return []expr.Any{&expr.Rt{Register: r, Key: expr.RtNexthop6}} }}
	}
	return f
}

// Priority is the kernel's own note on a packet, 4 bytes that stay with it while it is in the node.
func Priority() Field { return meta(expr.MetaKeyPRIORITY, 4) }

// OutKind is the kind of the interface that a packet leaves by (ARPHRD_...), in the node's byte order.
func OutKind() Field { return meta(expr.MetaKeyOIFTYPE, 2) }

// Protocol is the protocol above IP, behind IPv6 extension headers (AH is one by itself).
func Protocol() Field { return meta(expr.MetaKeyL4PROTO, 1) }

// In is the name of the interface that a packet came by, Out of the one that it leaves by.
func In() Field { return meta(expr.MetaKeyIIFNAME, unix.IFNAMSIZ) }

// Out: see In.
func Out() Field { return meta(expr.MetaKeyOIFNAME, unix.IFNAMSIZ) }

// firstRegister is the first of sixteen registers of 4 bytes; fields follow one another in them.
const firstRegister = unix.NFT_REG32_00

func load(fields []Field) []expr.Any {
	var out []expr.Any
	register := uint32(firstRegister)
	for _, f := range fields {
		out = append(out, f.load(register)...)
		register += (f.size + 3) / 4
	}
	return out
}

// Is matches a field's value.
func Is(f Field, value ...byte) []expr.Any { return compare(expr.CmpOpEq, f, value) }

// IsNot matches any other value.
func IsNot(f Field, value ...byte) []expr.Any { return compare(expr.CmpOpNeq, f, value) }

func compare(op expr.CmpOp, f Field, value []byte) []expr.Any {
	return append(load([]Field{f}), &expr.Cmp{Op: op, Register: firstRegister, Data: value})
}

// Family matches IPv4 (v is 4) or IPv6.
func Family(v int) []expr.Any {
	proto := byte(unix.NFPROTO_IPV4)
	if v == 6 {
		proto = unix.NFPROTO_IPV6
	}
	return Is(meta(expr.MetaKeyNFPROTO, 1), proto)
}

// Within matches fields that are, concatenated, an element of a set.
func Within(set string, fields ...Field) []expr.Any {
	return append(load(fields), &expr.Lookup{SourceRegister: firstRegister, SetName: set})
}

// Without matches fields that are no element of a set.
func Without(set string, fields ...Field) []expr.Any {
	return append(load(fields), &expr.Lookup{SourceRegister: firstRegister, SetName: set, Invert: true})
}

// Note makes a field of 4 bytes the packet's Priority.
func Note(f Field) []expr.Any { return append(load([]Field{f}), note()) }

// NoteNothing makes the packet's Priority 0, which is that of most.
func NoteNothing() []expr.Any {
	return []expr.Any{&expr.Immediate{Register: firstRegister, Data: make([]byte, 4)}, note()}
}

func note() expr.Any {
	return &expr.Meta{Key: expr.MetaKeyPRIORITY, SourceRegister: true, Register: firstRegister}
}

// Count counts into a named counter.
func Count(counter string) []expr.Any {
	return []expr.Any{&expr.Objref{Type: int(nftables.ObjTypeCounter), Name: counter}}
}

// Drop counts into a named counter and drops.
func Drop(counter string) []expr.Any { return append(Count(counter), verdict(expr.VerdictDrop, "")) }

// Limit matches that many packets a second, and as many at once.
func Limit(perSecond uint32) []expr.Any {
	return []expr.Any{&expr.Limit{Type: expr.LimitTypePkts, Rate: uint64(perSecond), Unit: expr.LimitTimeSecond, Burst: perSecond}}
}

// Log shows the first bytes of a packet, from its IP header on, to who reads an NFLOG group: at once, and with a word. It matches.
func Log(group uint16, bytes uint32, word string) []expr.Any {
	return []expr.Any{&expr.Log{Group: group, Snaplen: bytes, QThreshold: 1, Data: []byte(word),
		Key: 1<<unix.NFTA_LOG_GROUP | 1<<unix.NFTA_LOG_SNAPLEN | 1<<unix.NFTA_LOG_QTHRESHOLD | 1<<unix.NFTA_LOG_PREFIX}}
}

// Accept ends the hook's chain; chains of later priorities see the packet.
func Accept() []expr.Any { return []expr.Any{verdict(expr.VerdictAccept, "")} }

// Jump goes through another chain, and comes back from its end.
func Jump(c *nftables.Chain) []expr.Any { return []expr.Any{verdict(expr.VerdictJump, c.Name)} }

func verdict(kind expr.VerdictKind, chain string) expr.Any {
	return &expr.Verdict{Kind: kind, Chain: chain}
}
