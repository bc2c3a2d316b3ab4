package vip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"tunneldirector/director/plane"
)

// Protocol marks an address as ours (IFA_PROTO); `ip -details address` shows it as proto 0x7d.
const Protocol = 0x7d

// What golang.org/x/sys/unix lacks of include/uapi/linux/if_addr.h.
const (
	ifaProto = 11 // since Linux 5.18
	ifaFlags = unix.IFA_FLAGS
)

// An address is one that the kernel has.
type address struct {
	prefix   netip.Prefix
	index    int // of the interface
	protocol uint8
}

// A rtnl reads and writes addresses by rtnetlink. github.com/vishvananda/netlink does not know IFA_PROTO.
type rtnl struct{ conn *netlink.Conn }

func openRtnl() (*rtnl, error) {
	c, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return nil, fmt.Errorf("open rtnetlink: %w", err)
	}
	return &rtnl{c}, nil
}

func (r *rtnl) addresses() ([]address, error) {
	msgs, err := r.conn.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.RTM_GETADDR, Flags: netlink.Request | netlink.Dump},
		Data:   make([]byte, unix.SizeofIfAddrmsg),
	})
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	var list []address
	for _, m := range msgs {
		a, err := parseAddress(m.Data)
		if err != nil {
			return nil, fmt.Errorf("list addresses: %w", err)
		}
		if a.prefix.IsValid() {
			list = append(list, a)
		}
	}
	return list, nil
}

// parseAddress reads an RTM_NEWADDR; an address of another family than IPv4 and IPv6 comes back without a prefix.
func parseAddress(b []byte) (address, error) {
	if len(b) < unix.SizeofIfAddrmsg {
		return address{}, errors.New("message cut short")
	}
	family, bits := b[0], int(b[1])
	a := address{index: int(binary.NativeEndian.Uint32(b[4:8]))}
	if family != unix.AF_INET && family != unix.AF_INET6 {
		return a, nil
	}
	ad, err := netlink.NewAttributeDecoder(b[unix.SizeofIfAddrmsg:])
	if err != nil {
		return a, err
	}
	var addr, local netip.Addr // differ on point-to-point links, where local is ours
	for ad.Next() {
		switch ad.Type() {
		case unix.IFA_ADDRESS:
			addr, _ = netip.AddrFromSlice(ad.Bytes())
		case unix.IFA_LOCAL:
			local, _ = netip.AddrFromSlice(ad.Bytes())
		case ifaProto:
			a.protocol = ad.Uint8()
		}
	}
	if local.IsValid() {
		addr = local
	}
	a.prefix = netip.PrefixFrom(addr, bits)
	return a, ad.Err()
}

// add makes a VIP a local address. An IPv6 one is deprecated, so that it is nobody's choice of a source address.
func (r *rtnl) add(a netip.Addr, index int) error {
	data, err := encodeAddress(a, index)
	if err != nil {
		return err
	}
	_, err = r.conn.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.RTM_NEWADDR, Flags: netlink.Request | netlink.Acknowledge | netlink.Create | netlink.Excl},
		Data:   data,
	})
	switch {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w; the process needs CAP_NET_ADMIN", err)
	case errors.Is(err, unix.EACCES) && a.Is6():
		return fmt.Errorf("%w; IPv6 is off there, set its sysctl disable_ipv6 to 0", err)
	}
	return err
}

func (r *rtnl) remove(a netip.Addr, index int) error {
	data, err := encodeAddress(a, index)
	if err != nil {
		return err
	}
	_, err = r.conn.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.RTM_DELADDR, Flags: netlink.Request | netlink.Acknowledge},
		Data:   data,
	})
	if errors.Is(err, unix.EADDRNOTAVAIL) {
		return nil // gone already
	}
	return err
}

func encodeAddress(a netip.Addr, index int) ([]byte, error) {
	head := make([]byte, unix.SizeofIfAddrmsg)
	head[0], head[1] = unix.AF_INET, byte(a.BitLen())
	ae := netlink.NewAttributeEncoder()
	ae.Bytes(unix.IFA_LOCAL, a.AsSlice())
	ae.Bytes(unix.IFA_ADDRESS, a.AsSlice())
	ae.Uint8(ifaProto, Protocol)
	if a.Is6() {
		head[0] = unix.AF_INET6
		ae.Uint32(ifaFlags, unix.IFA_F_NODAD|unix.IFA_F_NOPREFIXROUTE)
		life := make([]byte, 16) // struct ifa_cacheinfo: preferred, valid, created, updated
		binary.NativeEndian.PutUint32(life[4:], math.MaxUint32)
		ae.Bytes(unix.IFA_CACHEINFO, life)
	}
	binary.NativeEndian.PutUint32(head[4:], uint32(index))
	attrs, err := ae.Encode()
	return append(head, attrs...), err
}

// errNoMark is the kernel's silence about IFA_PROTO.
var errNoMark = fmt.Errorf("%w: the kernel does not keep the mark of an address (IFA_PROTO, Linux 5.18 and later)", plane.ErrUnsupported)
