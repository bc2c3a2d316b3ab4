package vip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"tunneldirector/director/plane"
)

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
	finite   bool   // it goes by itself
	left     uint32 // seconds until then, rounded up
	created  uint32 // hundredths of a second since boot
}

// ours tells whether we put it there.
func (a address) ours() bool {
	return (a.protocol == Protocol || a.protocol == ProtocolGateway) && a.prefix.IsSingleIP()
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
		case unix.IFA_CACHEINFO: // struct ifa_cacheinfo: preferred, valid, created, updated
			if life := ad.Bytes(); len(life) >= 16 {
				a.left = binary.NativeEndian.Uint32(life[4:])
				a.finite = a.left != forever
				a.created = binary.NativeEndian.Uint32(life[8:])
			}
		}
	}
	if local.IsValid() {
		addr = local
	}
	a.prefix = netip.PrefixFrom(addr, bits)
	return a, ad.Err()
}

// forever is the kernel's INFINITY_LIFE_TIME.
const forever = math.MaxUint32

// add makes an address local. It must not be there.
func (r *rtnl) add(k spot, life time.Duration) error {
	err := r.put(k, life, netlink.Create|netlink.Excl)
	switch {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w; the process needs CAP_NET_ADMIN", err)
	case errors.Is(err, unix.EACCES) && k.addr.Is6():
		return fmt.Errorf("%w; IPv6 is off there, set its sysctl disable_ipv6 to 0", err)
	}
	return err
}

// renew gives an address its lifetime anew, in place. One that is not there comes into being, in spite of the flags
// (inet_rtm_newaddr in net/ipv4/devinet.c, inet6_rtm_newaddr in net/ipv6/addrconf.c).
func (r *rtnl) renew(k spot, life time.Duration) error { return r.put(k, life, netlink.Replace) }

func (r *rtnl) put(k spot, life time.Duration, flags netlink.HeaderFlags) error {
	data, err := encodeAddress(k, life)
	if err != nil {
		return err
	}
	_, err = r.conn.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.RTM_NEWADDR, Flags: netlink.Request | netlink.Acknowledge | flags},
		Data:   data,
	})
	return err
}

func (r *rtnl) remove(a netip.Addr, index int) error {
	data, err := encodeAddress(spot{addr: a, index: index}, 0)
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

// encodeAddress makes an address with a lifetime, 0 for ever. An IPv6 one is deprecated, so that it is nobody's choice of a
// source address. For IPv4 that would change nothing; it is preferred for as long as it is valid, which the kernel lets nobody
// exceed.
func encodeAddress(k spot, life time.Duration) ([]byte, error) {
	valid := uint32(forever)
	if life > 0 {
		valid = uint32(life / time.Second)
	}
	head := make([]byte, unix.SizeofIfAddrmsg)
	head[0], head[1] = unix.AF_INET, byte(k.addr.BitLen())
	binary.NativeEndian.PutUint32(head[4:], uint32(k.index))
	ae := netlink.NewAttributeEncoder()
	ae.Bytes(unix.IFA_LOCAL, k.addr.AsSlice())
	ae.Bytes(unix.IFA_ADDRESS, k.addr.AsSlice())
	ae.Uint8(ifaProto, uint8(k.kind))
	cache := make([]byte, 16) // struct ifa_cacheinfo: preferred, valid, created, updated
	binary.NativeEndian.PutUint32(cache[4:], valid)
	if k.addr.Is6() {
		head[0] = unix.AF_INET6
		ae.Uint32(ifaFlags, unix.IFA_F_NODAD|unix.IFA_F_NOPREFIXROUTE)
	} else {
		binary.NativeEndian.PutUint32(cache, valid)
	}
	ae.Bytes(unix.IFA_CACHEINFO, cache)
	attrs, err := ae.Encode()
	return append(head, attrs...), err
}

// errNoMark is the kernel's silence about IFA_PROTO.
var errNoMark = fmt.Errorf("%w: the kernel does not keep the mark of an address (IFA_PROTO, Linux 5.18 and later)", plane.ErrUnsupported)
