package inject

import (
	"encoding/binary"
	"net/netip"
	"time"

	"tunneldirector/affinity"
)

// Sizes of version 1 of the protocol: struct ip_vs_sync_mesg, ip_vs_sync_v4 and ip_vs_sync_v6.
const (
	headerSize = 8
	connSize4  = 36
	connSize6  = 72
	maxConns   = 255 // nr_conns is a byte
	markerSize = headerSize + 8
)

const (
	protocolVersion = 1
	typeIPv6        = 1 // STYPE_F_INET6
	protocolUDP     = 17
	flagNoCPort     = 0x800 // IP_VS_CONN_F_NO_CPORT
)

// forwarding is IP_VS_CONN_F_FWD_MASK's part of the flags.
var forwarding = [...]uint32{affinity.DR: 3, affinity.IPIP: 2, affinity.Masq: 0}

func connSize(c Conn) int {
	if c.VIP.Addr().Is4() {
		return connSize4
	}
	return connSize6
}

// next tells how many of conns the next message takes: what fits into size bytes, but at least one.
func next(conns []Conn, size int) int {
	size -= headerSize
	for i, c := range conns {
		size -= connSize(c)
		if i > 0 && size < 0 || i == maxConns {
			return i
		}
	}
	return len(conns)
}

// appendMessage appends one datagram with these entries, 1 to maxConns. Both sizes of an entry are multiples of four, so
// that none needs padding.
func appendMessage(b []byte, syncID uint8, conns []Conn) []byte {
	start := len(b)
	// The first byte is the count of version 0, whose receivers thus see nothing in it; the size comes last.
	b = append(b, 0, syncID, 0, 0, byte(len(conns)), protocolVersion, 0, 0)
	for _, c := range conns {
		b = appendConn(b, c)
	}
	binary.BigEndian.PutUint16(b[start+2:], uint16(len(b)-start))
	return b
}

// appendMarker appends a message without entries, which carries a number behind them where the kernel does not look.
func appendMarker(b []byte, syncID uint8, number uint64) []byte {
	b = append(b, 0, syncID, 0, markerSize, 0, protocolVersion, 0, 0)
	return binary.BigEndian.AppendUint64(b, number)
}

func appendConn(b []byte, c Conn) []byte {
	kind := byte(typeIPv6)
	if c.VIP.Addr().Is4() {
		kind = 0
	}
	flags := forwarding[c.Method]
	if c.Client.Port() == 0 {
		flags |= flagNoCPort
	}
	b = append(b, kind, protocolUDP)
	b = binary.BigEndian.AppendUint16(b, uint16(connSize(c))) // the upper four bits are the entry's version, 0
	b = binary.BigEndian.AppendUint32(b, flags)
	b = binary.BigEndian.AppendUint16(b, 0) // IP_VS_UDP_S_NORMAL
	b = binary.BigEndian.AppendUint16(b, c.Client.Port())
	b = binary.BigEndian.AppendUint16(b, c.VIP.Port())
	b = binary.BigEndian.AppendUint16(b, c.Dest.Port())
	b = binary.BigEndian.AppendUint32(b, 0) // no firewall mark
	b = binary.BigEndian.AppendUint32(b, uint32(c.Timeout/time.Second))
	for _, a := range [...]netip.Addr{c.Client.Addr(), c.VIP.Addr(), c.Dest.Addr()} {
		b = append(b, a.AsSlice()...)
	}
	return b
}
