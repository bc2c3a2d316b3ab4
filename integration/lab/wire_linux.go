package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A segment is one bridge of the switch and the networks on it. Host n of it has the n-th address of each.
type segment struct {
	name     string
	net4     netip.Prefix
	net6     netip.Prefix
	withIPv6 bool
}

// addrs are the addresses of host n with the networks' lengths.
func (s segment) addrs(n int) []netip.Prefix {
	b := s.net4.Addr().As4()
	b[3] += byte(n)
	out := []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4(b), s.net4.Bits())}
	if s.withIPv6 {
		b := s.net6.Addr().As16()
		b[15] += byte(n)
		out = append(out, netip.PrefixFrom(netip.AddrFrom16(b), s.net6.Bits()))
	}
	return out
}

// A Port is an interface of a machine, plugged into the switch.
type Port struct {
	Name  string // in the machine's namespace
	MAC   net.HardwareAddr
	Addrs []netip.Addr

	outlet string // the other end, in the switch
}

// plug connects a machine to a segment as its host number n.
func (l *Lab) plug(ns *Namespace, name string, s segment, n int) (Port, error) {
	l.outlets++
	p := Port{Name: name, outlet: fmt.Sprintf("%s.%d", s.name, l.outlets)}
	veth := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: p.outlet, PeerNamespace: netlink.NsFd(int(l.Switch.handle)),
	}
	if err := ns.nl.LinkAdd(veth); err != nil {
		return p, fmt.Errorf("add %s in %s: %w", name, ns.Name, err)
	}
	outlet, err := l.Switch.nl.LinkByName(p.outlet)
	if err != nil {
		return p, fmt.Errorf("find %s in the switch: %w", p.outlet, err)
	}
	bridge, err := l.Switch.nl.LinkByName(s.name)
	if err != nil {
		return p, fmt.Errorf("find bridge %s: %w", s.name, err)
	}
	if err := l.Switch.nl.LinkSetMaster(outlet, bridge); err != nil {
		return p, fmt.Errorf("put %s into bridge %s: %w", p.outlet, s.name, err)
	}
	err = errors.Join(honest(l.Switch, p.outlet), honest(ns, name), l.Switch.up(p.outlet), ns.up(name))
	if err != nil {
		return p, err
	}
	link, err := ns.nl.LinkByName(name)
	if err != nil {
		return p, fmt.Errorf("find %s in %s: %w", name, ns.Name, err)
	}
	p.MAC = link.Attrs().HardwareAddr
	for _, a := range s.addrs(n) {
		p.Addrs = append(p.Addrs, a.Addr())
		if err := ns.Hold(name, a); err != nil {
			return p, err
		}
	}
	return p, nil
}

// addBridge makes a segment in the switch.
func (l *Lab) addBridge(s segment) error {
	snooping := false
	if err := l.Switch.nl.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: s.name}, MulticastSnooping: &snooping}); err != nil {
		return fmt.Errorf("add bridge %s: %w", s.name, err)
	}
	return l.Switch.up(s.name)
}

// Hold adds an address to an interface, without duplicate address detection.
func (n *Namespace) Hold(name string, a netip.Prefix) error {
	link, err := n.nl.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find %s in %s: %w", name, n.Name, err)
	}
	addr := &netlink.Addr{IPNet: ipNet(a)}
	if a.Addr().Is6() {
		addr.Flags = unix.IFA_F_NODAD
	}
	if err := n.nl.AddrAdd(link, addr); err != nil {
		return fmt.Errorf("add %s to %s in %s: %w", a, name, n.Name, err)
	}
	return nil
}

// Route sends packets for a network to a gateway on an interface of the machine.
func (n *Namespace) Route(dst netip.Prefix, via netip.Addr, dev string) error {
	return n.route(dst, via, dev, 0)
}

// SendUDP sends count datagrams, each of its own, and takes no notice of answers and refusals.
func (n *Namespace) SendUDP(from, to netip.AddrPort, count int) error {
	var c *net.UDPConn
	err := n.Run(func() (err error) {
		c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(from))
		return err
	})
	if err != nil {
		return fmt.Errorf("send from %s in %s: %w", from, n.Name, err)
	}
	defer c.Close()
	for range count {
		if _, err := c.WriteToUDPAddrPort([]byte("nobody knows me"), to); err != nil {
			return fmt.Errorf("send from %s to %s in %s: %w", from, to, n.Name, err)
		}
	}
	return nil
}

// route sets a route: by a gateway, or on the link if via is the zero Addr. Table 0 is the main one.
func (n *Namespace) route(dst netip.Prefix, via netip.Addr, dev string, table int) error {
	link, err := n.nl.LinkByName(dev)
	if err != nil {
		return fmt.Errorf("find %s in %s: %w", dev, n.Name, err)
	}
	r := &netlink.Route{Dst: ipNet(dst), LinkIndex: link.Attrs().Index, Table: table}
	if via.IsValid() {
		r.Gw = via.AsSlice()
	} else if dst.Addr().Is4() {
		r.Scope = netlink.SCOPE_LINK
	}
	if err := n.nl.RouteReplace(r); err != nil {
		return fmt.Errorf("route %s by %s in %s: %w", dst, dev, n.Name, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// defaultOf is the default route's destination in a's family.
func defaultOf(a netip.Addr) netip.Prefix {
	if a.Is4() {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
}

// honest makes an interface put on the wire what a wire carries: checksums, which a veth pair leaves to a device that is
// not there, and which XDP, redirecting a packet past the stack that would notice, delivers wrong; packets in the sizes in
// which they were sent; VLAN tags (the only flags of ETHTOOL_SFLAGS that veth has), which XDP sees in the frame alone.
func honest(n *Namespace, name string) error {
	return n.Run(func() error {
		for _, cmd := range []uint32{unix.ETHTOOL_STXCSUM, unix.ETHTOOL_SGRO, unix.ETHTOOL_SFLAGS} {
			if err := ethtoolOff(name, cmd); err != nil {
				return fmt.Errorf("turn offload %#x of %s in %s off: %w", cmd, name, n.Name, err)
			}
		}
		return nil
	})
}

// ethtoolOff is one SIOCETHTOOL call with struct ethtool_value{cmd, 0}.
func ethtoolOff(name string, cmd uint32) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	value := struct{ cmd, data uint32 }{cmd: cmd}
	req := struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}{data: unsafe.Pointer(&value)}
	copy(req.name[:unix.IFNAMSIZ-1], name)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req))); errno != 0 {
		return os.NewSyscallError("ioctl", errno)
	}
	return nil
}

// wakeful makes outlets take frames that a program at the other end transmits or redirects: veth takes them only where
// NAPI runs, and NAPI runs where a program is attached.
func (l *Lab) wakeful(ports ...Port) error {
	pass, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "pass", Type: ebpf.XDP, License: "Apache-2.0",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()}, // XDP_PASS
	})
	if err != nil {
		return fmt.Errorf("load the program that passes all: %w", err)
	}
	defer pass.Close()
	return l.Switch.Run(func() error {
		for _, p := range ports {
			link, err := netlink.LinkByName(p.outlet)
			if err != nil {
				return fmt.Errorf("find %s in the switch: %w", p.outlet, err)
			}
			if err := netlink.LinkSetXdpFdWithFlags(link, pass.FD(), unix.XDP_FLAGS_DRV_MODE); err != nil {
				return fmt.Errorf("attach the program that passes all to %s: %w", p.outlet, err)
			}
		}
		return nil
	})
}
