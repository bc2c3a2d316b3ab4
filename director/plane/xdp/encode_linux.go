package xdp

import (
	"encoding/binary"
	"net/netip"

	"tunneldirector/director/plane"
)

// The edge between netip and the program's keys and values. Addresses in maps are in network byte order.

func encodeAddr(a netip.Addr) (out forwardAddr) {
	b := a.As16()
	for i := range out.Word {
		out.Word[i] = binary.NativeEndian.Uint32(b[4*i:])
	}
	return out
}

func decodeAddr(in forwardAddr, v6 bool) netip.Addr {
	var b [16]byte
	for i, w := range in.Word {
		binary.NativeEndian.PutUint32(b[4*i:], w)
	}
	if v6 {
		return netip.AddrFrom16(b)
	}
	return netip.AddrFrom4([4]byte(b[12:]))
}

func encode4(a netip.Addr) uint32 {
	b := a.As4()
	return binary.NativeEndian.Uint32(b[:])
}

func decode4(w uint32) netip.Addr {
	var b [4]byte
	binary.NativeEndian.PutUint32(b[:], w)
	return netip.AddrFrom4(b)
}

func encodeLocal(a netip.Addr) forwardLocalKey {
	k := forwardLocalKey{Family: 4, Addr: encodeAddr(a)}
	if a.Is6() {
		k.Family = 6
	}
	return k
}

func decodeLocal(k forwardLocalKey) netip.Addr { return decodeAddr(k.Addr, k.Family == 6) }

func encodeTarget(t plane.Target) forwardTarget {
	return forwardTarget{Primary: uint16(t.Primary), Backup: uint16(t.Backup), Drop: uint8(t.Drop)}
}

func encodePin4(k plane.EndpointKey, vip uint16) forwardPin4Key {
	return forwardPin4Key{Addr: encode4(k.Addr), Port: k.Port, Vip: vip}
}

func encodePin6(k plane.EndpointKey, vip uint16) forwardPin6Key {
	return forwardPin6Key{Addr: encodeAddr(k.Addr), Port: k.Port, Vip: vip}
}

func encodeSubnet4(k plane.SubnetKey) forwardSubnet4Key {
	return forwardSubnet4Key{Tenant: k.Tenant, Bits: uint16(k.Prefix.Bits()), Prefix: encode4(k.Prefix.Addr())}
}

func encodeSubnet6(k plane.SubnetKey) forwardSubnet6Key {
	return forwardSubnet6Key{Tenant: k.Tenant, Bits: uint16(k.Prefix.Bits()), Prefix: encodeAddr(k.Prefix.Addr())}
}

func encodeCover(k plane.SubnetKey) forwardCoverKey {
	return forwardCoverKey{Tenant: k.Tenant, Bits: uint16(k.Prefix.Bits()), Prefix: encodeLocal(k.Prefix.Addr())}
}

func decodeCover(k forwardCoverKey) plane.SubnetKey {
	return plane.SubnetKey{Tenant: k.Tenant, Prefix: netip.PrefixFrom(decodeLocal(k.Prefix), int(k.Bits))}
}

func encodeServer(s plane.RealServer) forwardServer {
	v := forwardServer{Method: uint8(s.Method), Mtu: uint32(max(s.MTU, 0))}
	if s.Alive {
		v.Alive = 1
	}
	if len(s.VLANs) > 0 {
		v.Tagged = 1
	}
	for _, a := range s.Addrs {
		if a.Is4() {
			v.Addr4 = encode4(a)
		} else {
			v.Has6, v.Addr6 = 1, encodeAddr(a)
		}
	}
	v.Tag4, v.Tag6 = linkTag(reachedBy(s, false)), linkTag(reachedBy(s, true))
	return v
}

// reachedBy is the address whose neighbour gets packets of one family: the real server's own of that family, else the other
// one. Under DR only the MAC address counts; under tunnel it tells at least where packets come from.
func reachedBy(s plane.RealServer, v6 bool) (a netip.Addr) {
	for _, own := range s.Addrs {
		if own.Is6() == v6 {
			return own
		}
		a = own
	}
	return a
}

// linkTag marks a link as found for an address, so that a real server never gets its predecessor's MAC.
func linkTag(a netip.Addr) uint32 {
	if !a.IsValid() {
		return 0
	}
	return max(1, plane.HashAddr(a))
}
