package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// A machine is a network namespace without a name: it is gone when this process is.
type machine struct {
	ns netns.NsHandle
	nl *netlink.Handle
}

func newMachine() (_ *machine, err error) {
	m := &machine{ns: netns.None()}
	defer func() {
		if err != nil {
			m.close()
		}
	}()
	err = apart(func() (err error) {
		m.ns, err = netns.New()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("create a network namespace: %w", err)
	}
	if m.nl, err = netlink.NewHandleAt(m.ns); err != nil {
		return nil, fmt.Errorf("open netlink in a namespace: %w", err)
	}
	return m, m.do(func() error {
		for _, key := range []string{"conf/all/rp_filter", "conf/default/rp_filter"} {
			if err := os.WriteFile(filepath.Join("/proc/sys/net/ipv4", key), []byte("0"), 0o644); err != nil {
				return err
			}
		}
		return nil
	})
}

func (m *machine) close() {
	if m.nl != nil {
		m.nl.Close()
	}
	if m.ns.IsOpen() {
		_ = m.ns.Close()
	}
}

// apart calls f on a thread that ends with it, so that f may leave it in any namespace.
func apart(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked
		done <- f()
	}()
	return <-done
}

// do calls f in the machine's namespace.
func (m *machine) do(f func() error) error {
	return apart(func() error {
		if err := netns.Set(m.ns); err != nil {
			return fmt.Errorf("enter a network namespace: %w", err)
		}
		return f()
	})
}

// cable joins two machines by a veth pair that is up.
func cable(a *machine, nameA string, b *machine, nameB string) error {
	err := a.nl.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: nameA}, PeerName: nameB, PeerNamespace: netlink.NsFd(int(b.ns))})
	if err != nil {
		return fmt.Errorf("add veth pair %s, %s: %w", nameA, nameB, err)
	}
	for _, end := range []struct {
		m    *machine
		name string
	}{{a, nameA}, {b, nameB}} {
		l, err := end.m.nl.LinkByName(end.name)
		if err == nil {
			err = end.m.nl.LinkSetUp(l)
		}
		if err != nil {
			return fmt.Errorf("set %s up: %w", end.name, err)
		}
	}
	return nil
}

// link is what frames need to know of an interface.
func (m *machine) link(name string) (index int, mac [6]byte, err error) {
	l, err := m.nl.LinkByName(name)
	if err != nil {
		return 0, mac, fmt.Errorf("find %s: %w", name, err)
	}
	copy(mac[:], l.Attrs().HardwareAddr)
	return l.Attrs().Index, mac, nil
}

// address gives an interface addresses.
func (m *machine) address(name string, addrs ...string) error {
	l, err := m.nl.LinkByName(name)
	for _, s := range addrs {
		p := netip.MustParsePrefix(s)
		if err == nil {
			err = m.nl.AddrAdd(l, &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}})
		}
	}
	if err != nil {
		return fmt.Errorf("give %s addresses: %w", name, err)
	}
	return nil
}

// neighbour makes a neighbour known for good.
func (m *machine) neighbour(name string, a netip.Addr, mac [6]byte) error {
	index, _, err := m.link(name)
	if err == nil {
		err = m.nl.NeighSet(&netlink.Neigh{LinkIndex: index, IP: a.AsSlice(), HardwareAddr: mac[:], State: netlink.NUD_PERMANENT, Family: unix.AF_INET})
	}
	if err != nil {
		return fmt.Errorf("tell %s of %s: %w", name, a, err)
	}
	return nil
}

// attach puts a program on an interface, in native mode.
func (m *machine) attach(name string, p *ebpf.Program) error {
	err := m.do(func() error {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		return netlink.LinkSetXdpFdWithFlags(l, p.FD(), unix.XDP_FLAGS_DRV_MODE)
	})
	if err != nil {
		return fmt.Errorf("attach a program to %s: %w", name, err)
	}
	return nil
}

// mountBPF mounts a BPF file system of its own, and returns how to unmount it.
func mountBPF() (dir string, unmount func() error, err error) {
	if dir, err = os.MkdirTemp("", "bench-bpf-"); err != nil {
		return "", nil, err
	}
	if err := unix.Mount("bpf", dir, "bpf", 0, "mode=0700"); err != nil {
		return "", nil, errors.Join(fmt.Errorf("mount a BPF file system: %w", err), os.Remove(dir))
	}
	return dir, func() error { return errors.Join(unix.Unmount(dir, unix.MNT_DETACH), os.Remove(dir)) }, nil
}

// route sends what is for one address by a gateway.
func (m *machine) route(dst, via netip.Addr, dev string) error {
	index, _, err := m.link(dev)
	if err == nil {
		err = m.nl.RouteAdd(&netlink.Route{Dst: &net.IPNet{IP: dst.AsSlice(), Mask: net.CIDRMask(dst.BitLen(), dst.BitLen())}, Gw: via.AsSlice(), LinkIndex: index})
	}
	if err != nil {
		return fmt.Errorf("route %s by %s: %w", dst, dev, err)
	}
	return nil
}
