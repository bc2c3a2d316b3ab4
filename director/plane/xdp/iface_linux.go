package xdp

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tunneldirector/director/plane"
	"tunneldirector/director/vip/dump"
)

// An iface is an interface as configured and as the kernel has it.
type iface struct {
	plane.Interface
	index   int
	mac     [6]byte
	mtu     int
	foreign uint32 // XDP program that somebody attached, as far as is known before our links are
	v4, v6  netip.Addr
	away    bool // it was there, and is not now
}

func readIface(h *netlink.Handle, i plane.Interface) (iface, error) {
	l, err := h.LinkByName(i.Name)
	if err != nil {
		return iface{}, fmt.Errorf("use interface %q: %w", i.Name, err)
	}
	a := l.Attrs()
	if len(a.HardwareAddr) != 6 {
		return iface{}, fmt.Errorf("use interface %q: it is not Ethernet: %w", i.Name, plane.ErrUnsupported)
	}
	out := iface{Interface: i, index: a.Index, mac: [6]byte(a.HardwareAddr), mtu: a.MTU}
	if a.Xdp != nil && a.Xdp.Attached {
		out.foreign = a.Xdp.ProgId
	}
	addrs, err := dump.Whole(func() ([]netlink.Addr, error) { return h.AddrList(l, unix.AF_UNSPEC) })
	if err != nil {
		return iface{}, fmt.Errorf("read addresses of interface %q: %w", i.Name, err)
	}
	for _, addr := range addrs {
		ip, _ := netip.AddrFromSlice(addr.IP)
		ip = ip.Unmap()
		switch {
		case ip.Is4() && !out.v4.IsValid():
			out.v4 = ip
		case ip.Is6() && (!out.v6.IsValid() || out.v6.IsLinkLocalUnicast()):
			out.v6 = ip
		}
	}
	return out, nil
}

func readIfaces(h *netlink.Handle, list []plane.Interface) ([]iface, error) {
	var out []iface
	for _, i := range list {
		found, err := readIface(h, i)
		if err != nil {
			return nil, err
		}
		out = append(out, found)
	}
	return out, nil
}

func encodeIfaces(list []iface) map[uint32]forwardIface {
	want := map[uint32]forwardIface{}
	for _, i := range list {
		v := forwardIface{Mac: i.mac, Roles: uint8(i.Roles)}
		if i.v4.IsValid() {
			v.Addr4 = encode4(i.v4)
		}
		if i.v6.IsValid() {
			v.Addr6 = encodeAddr(i.v6)
		}
		want[uint32(i.index)] = v
	}
	return want
}
