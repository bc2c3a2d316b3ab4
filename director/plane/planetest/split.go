package planetest

import (
	"encoding/binary"
	"fmt"
)

// parts of a frame: no more than is needed to hold one against another, and nothing shared with the builder.
type parts struct {
	dst, src []byte
	tag      uint16
	ip       []byte // by its own length: padding is gone
}

func split(frame []byte) (parts, error) {
	if len(frame) < 14+20 {
		return parts{}, fmt.Errorf("a frame of %d bytes: %x", len(frame), frame)
	}
	p := parts{dst: frame[:6], src: frame[6:12], ip: frame[14:]}
	kind := binary.BigEndian.Uint16(frame[12:])
	if kind == 0x8100 {
		p.tag, p.ip = binary.BigEndian.Uint16(frame[14:])&0xfff, frame[18:]
		kind = binary.BigEndian.Uint16(frame[16:])
	}
	length := 0
	switch version := p.ip[0] >> 4; {
	case kind == 0x0800 && version == 4:
		length = int(binary.BigEndian.Uint16(p.ip[2:]))
	case kind == 0x86dd && version == 6:
		length = 40 + int(binary.BigEndian.Uint16(p.ip[4:]))
	default:
		return parts{}, fmt.Errorf("type %04x over IP version %d: %x", kind, version, frame)
	}
	if length < 20 || length > len(p.ip) || p.ip[0]>>4 == 6 && length < 40 {
		return parts{}, fmt.Errorf("an IP length of %d in %d bytes: %x", length, len(p.ip), frame)
	}
	p.ip = p.ip[:length]
	return p, nil
}

// sum is the Internet checksum's sum over b, begun with start. Over data that holds its checksum it is 0xffff.
func sum(start uint32, b []byte) uint16 {
	s := start
	for ; len(b) > 1; b = b[2:] {
		s += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		s += uint32(b[0]) << 8
	}
	for s > 0xffff {
		s = s&0xffff + s>>16
	}
	return uint16(s)
}
