package load

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// A socket is one that receives datagrams, as sock_diag(7) tells of it.
type socket struct {
	cookie uint64 // one of a kind
	inode  uint32
	local  netip.AddrPort
	queue  uint32 // bytes that wait, as the kernel charges them to the buffer
	buffer uint32 // bytes, the double of what was asked for
	drops  uint32 // since it was made
}

const (
	diagSize    = 72 // struct inet_diag_msg
	diagMemory  = 7  // INET_DIAG_SKMEMINFO
	memoryRcv   = 1  // SK_MEMINFO_RCVBUF
	memoryDrops = 8  // SK_MEMINFO_DROPS
	familyIPv4  = 2
	familyIPv6  = 10
)

// parseSocket reads a struct inet_diag_msg (linux/inet_diag.h) and its attributes.
func parseSocket(b []byte) (socket, error) {
	if len(b) < diagSize {
		return socket{}, fmt.Errorf("socket of %d bytes: at least %d", len(b), diagSize)
	}
	var local netip.Addr
	switch b[0] {
	case familyIPv4:
		local = netip.AddrFrom4([4]byte(b[8:]))
	case familyIPv6:
		local = netip.AddrFrom16([16]byte(b[8:]))
	default:
		return socket{}, fmt.Errorf("socket of family %d", b[0])
	}
	u32 := binary.NativeEndian.Uint32
	s := socket{
		local:  netip.AddrPortFrom(local, binary.BigEndian.Uint16(b[4:])),
		cookie: uint64(u32(b[44:])) | uint64(u32(b[48:]))<<32,
		queue:  u32(b[56:]),
		inode:  u32(b[68:]),
	}
	for b = b[diagSize:]; len(b) >= 4; {
		size, kind := int(binary.NativeEndian.Uint16(b)), binary.NativeEndian.Uint16(b[2:])
		if size < 4 || size > len(b) {
			return socket{}, fmt.Errorf("socket %s: attribute of %d bytes in %d", s.local, size, len(b))
		}
		if kind == diagMemory && size >= 4+4*(memoryDrops+1) {
			s.buffer, s.drops = u32(b[4+4*memoryRcv:]), u32(b[4+4*memoryDrops:])
		}
		b = b[min(len(b), (size+3)&^3):]
	}
	if s.buffer == 0 {
		return socket{}, fmt.Errorf("socket %s: its buffer and drops are not told", s.local)
	}
	return s, nil
}

// receivers are those of sockets that receive what comes to an address: the ones at it, else the ones at any address. Asked for any
// address where none is at that, they are all of the port: the terminator did not say which.
func receivers(sockets []socket, at netip.AddrPort) []socket {
	var exact, wide, all []socket
	for _, s := range sockets {
		a := s.local.Addr()
		switch {
		case s.local.Port() != at.Port():
		case a.Unmap() == at.Addr().Unmap():
			exact = append(exact, s)
		case a.IsUnspecified() && (a.Is6() || at.Addr().Unmap().Is4()):
			wide = append(wide, s)
		case at.Addr().IsUnspecified():
			all = append(all, s)
		}
	}
	switch {
	case len(exact) > 0:
		return exact
	case len(wide) > 0:
		return wide
	}
	return all
}
