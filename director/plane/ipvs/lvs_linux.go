package ipvs

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/moby/ipvs"
	"golang.org/x/sys/unix"

	"tunneldirector/affinity"
)

// mark is the idle timeout that our services carry: IPVS keeps it, and uses it only of persistent services, which ours
// are not.
const mark = 0x7464

// Flags of services (include/uapi/linux/ip_vs.h).
const flagOnePacket = 0x0004 // IP_VS_SVC_F_ONEPACKET

var allOnes = net.CIDRMask(128, 128)

// An lvs is IPVS's configuration by generic netlink.
type lvs struct{ h *ipvs.Handle }

func openLVS() (*lvs, error) {
	h, err := ipvs.New("")
	if err != nil {
		return nil, err
	}
	return &lvs{h}, nil
}

func (l *lvs) Close() error {
	l.h.Close()
	return nil
}

// UDPTimeout is what IPVS gives an entry when a UDP packet comes through it.
func (l *lvs) UDPTimeout() (time.Duration, error) {
	c, err := l.h.GetConfig()
	if err != nil {
		return 0, fmt.Errorf("read IPVS's timeouts: %w", err)
	}
	return c.TimeoutUDP, nil
}

func (l *lvs) service(key netip.AddrPort, hash bool) *ipvs.Service {
	s := &ipvs.Service{Address: key.Addr().AsSlice(), Protocol: unix.IPPROTO_UDP, Port: key.Port(), SchedName: "mh", Flags: flagOnePacket,
		Timeout: mark, AddressFamily: unix.AF_INET, Netmask: 0xffffffff}
	if !hash {
		s.SchedName, s.Flags = "rr", 0
	}
	if key.Addr().Is6() {
		ones, _ := allOnes.Size()
		s.AddressFamily, s.Netmask = unix.AF_INET6, uint32(ones)
	}
	return s
}

var methods = map[affinity.Method]uint32{
	affinity.DR: ipvs.ConnectionFlagDirectRoute, affinity.IPIP: ipvs.ConnectionFlagTunnel, affinity.Masq: ipvs.ConnectionFlagMasq,
}

// Change makes one change. It is idempotent.
func (l *lvs) Change(c change) error {
	s := l.service(c.key, c.hash)
	switch c.act {
	case putService:
		if c.known {
			return wrap("change", l.h.UpdateService(s))
		}
		err := l.h.NewService(s)
		if errors.Is(err, unix.EEXIST) {
			return notOurs(c.key)
		}
		return wrap("make", err)
	case cutService:
		if err := l.h.DelService(s); err != nil && !errors.Is(err, unix.ESRCH) {
			return wrap("remove", err)
		}
		return nil
	}
	d := &ipvs.Destination{Address: c.dest.addr.Addr().AsSlice(), Port: c.dest.addr.Port(), Weight: c.weight,
		ConnectionFlags: methods[c.dest.method], AddressFamily: s.AddressFamily}
	if c.act == putDest {
		err := l.h.NewDestination(s, d)
		if errors.Is(err, unix.EEXIST) {
			err = l.h.UpdateDestination(s, d)
		}
		return wrap(fmt.Sprintf("put destination %v", c.dest.addr), err)
	}
	if err := l.h.DelDestination(s, d); err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ESRCH) {
		return wrap(fmt.Sprintf("remove destination %v", c.dest.addr), err)
	}
	return nil
}

func wrap(what string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// Read reads all UDP services with their destinations.
func (l *lvs) Read() ([]virtual, error) {
	services, err := l.h.GetServices()
	if err != nil {
		return nil, err
	}
	var out []virtual
	for _, s := range services {
		a, ok := addrOf(s.Address, s.AddressFamily)
		if !ok || s.FWMark != 0 || s.Protocol != unix.IPPROTO_UDP {
			continue
		}
		v := virtual{key: netip.AddrPortFrom(a, s.Port), ours: s.Timeout == mark, hash: s.Flags&flagOnePacket != 0, dests: map[dest]state{}}
		destinations, err := l.h.GetDestinations(s)
		if err != nil {
			return nil, fmt.Errorf("destinations of UDP %v: %w", v.key, err)
		}
		for _, d := range destinations {
			a, ok := addrOf(d.Address, d.AddressFamily)
			if !ok {
				continue
			}
			v.dests[dest{netip.AddrPortFrom(a, d.Port), methodOf(d.ConnectionFlags)}] = state{weight: d.Weight, active: d.ActiveConnections, other: d.InactiveConnections,
				packets: d.Stats.PacketsIn, bytes: d.Stats.BytesIn}
		}
		out = append(out, v)
	}
	return out, nil
}

func methodOf(flags uint32) affinity.Method {
	for m, f := range methods {
		if flags&ipvs.ConnectionFlagFwdMask == f {
			return m
		}
	}
	return affinity.DR
}

func addrOf(ip net.IP, family uint16) (netip.Addr, bool) {
	a, ok := netip.AddrFromSlice(ip)
	if family == unix.AF_INET {
		a = a.Unmap()
	}
	return a, ok
}
