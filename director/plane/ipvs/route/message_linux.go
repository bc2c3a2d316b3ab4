package route

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Messages are written by hand, into one buffer for a whole batch: a million routes would be as many slices otherwise.
// Structures are those of include/uapi/linux/{netlink,rtnetlink,nexthop,fib_rules,lwtunnel}.h.

var native = binary.NativeEndian

// What golang.org/x/sys/unix lacks.
const (
	rtaNHID = 30 // RTA_NH_ID

	nhaResGroup       = 12 // NHA_RES_GROUP
	nhaResBuckets     = 1
	nhaResIdleTimer   = 2
	groupResilient    = 1 // NEXTHOP_GRP_TYPE_RES
	lwtunnelDst       = 2 // LWTUNNEL_IP_DST and LWTUNNEL_IP6_DST
	lwtunnelTTL       = 4 // LWTUNNEL_IP_TTL and LWTUNNEL_IP6_HOPLIMIT
	lwtunnelTOS       = 5
	lwtunnelFlags     = 6
	dontFragment      = 0x0100 // TUNNEL_DONT_FRAGMENT, big endian
	ruleToTable       = 1      // FR_ACT_TO_TBL
	scopeAny          = unix.RT_SCOPE_NOWHERE
	sizeofNexthopItem = 8 // struct nexthop_grp
)

// begin starts a message; end completes it.
func begin(b []byte, kind, flags uint16) []byte {
	b = native.AppendUint32(b, 0)
	b = native.AppendUint16(b, kind)
	b = native.AppendUint16(b, flags|unix.NLM_F_REQUEST)
	return append(b, make([]byte, 8)...) // sequence number (see exchange) and port
}

// end writes the length of the message that starts at start.
func end(b []byte, start int) { native.PutUint32(b[start:], uint32(len(b)-start)) }

// attr appends an attribute, padded.
func attr(b []byte, kind uint16, data []byte) []byte {
	b = native.AppendUint16(b, uint16(unix.SizeofRtAttr+len(data)))
	b = native.AppendUint16(b, kind)
	b = append(b, data...)
	return append(b, make([]byte, -len(data)&3)...)
}

func attr32(b []byte, kind uint16, v uint32) []byte {
	return native.AppendUint32(native.AppendUint16(native.AppendUint16(b, 8), kind), v)
}

func attr16(b []byte, kind, v uint16) []byte { return attr(b, kind, native.AppendUint16(nil, v)) }

func attrAddr(b []byte, kind uint16, a netip.Addr) []byte {
	if a.Is4() {
		v := a.As4()
		return attr(b, kind, v[:])
	}
	v := a.As16()
	return attr(b, kind, v[:])
}

func family(v6 bool) byte {
	if v6 {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

// attributes calls f for each; it stops at what is cut short.
func attributes(b []byte, f func(kind uint16, data []byte)) {
	for len(b) >= unix.SizeofRtAttr {
		n := int(native.Uint16(b))
		if n < unix.SizeofRtAttr || n > len(b) {
			return
		}
		f(native.Uint16(b[2:])&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), b[unix.SizeofRtAttr:n])
		b = b[min((n+3)&^3, len(b)):]
	}
}

func u32(b []byte) uint32 {
	if len(b) < 4 {
		return 0
	}
	return native.Uint32(b)
}

func address(b []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(b)
	return a
}
