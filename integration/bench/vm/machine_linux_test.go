package vm

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// A machine is a network namespace without a name.
type machine struct {
	t  *testing.T
	ns netns.NsHandle
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{t: t}
	must(t, "create a network namespace", apart(func() (err error) {
		if m.ns, err = netns.New(); err != nil {
			return err
		}
		for key, value := range map[string]string{
			"ipv4/conf/all/rp_filter": "0", "ipv4/conf/default/rp_filter": "0", "ipv4/ip_forward": "1",
			"ipv4/conf/all/send_redirects": "0", "ipv4/conf/default/send_redirects": "0", "ipv6/conf/default/accept_dad": "0",
		} {
			err = errors.Join(err, os.WriteFile(filepath.Join("/proc/sys/net", key), []byte(value), 0o644))
		}
		lo, failed := netlink.LinkByName("lo")
		if failed == nil {
			failed = netlink.LinkSetUp(lo)
		}
		return errors.Join(err, failed)
	}))
	t.Cleanup(func() { m.ns.Close() })
	return m
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
func (m *machine) do(act string, f func() error) {
	m.t.Helper()
	must(m.t, act, apart(func() error {
		if err := netns.Set(m.ns); err != nil {
			return fmt.Errorf("enter the network namespace: %w", err)
		}
		return f()
	}))
}

// cable joins two machines by a veth pair.
func cable(a *machine, nameA string, b *machine, nameB string) {
	a.t.Helper()
	a.do("join "+nameA+" and "+nameB, func() error {
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: nameA}, PeerName: nameB, PeerNamespace: netlink.NsFd(int(b.ns))})
	})
	a.up(nameA)
	b.up(nameB)
}

func (m *machine) up(name string) {
	m.t.Helper()
	m.do("set "+name+" up", func() error {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		return netlink.LinkSetUp(l)
	})
}

func (m *machine) link(name string) (index int, mac net.HardwareAddr) {
	m.t.Helper()
	m.do("find "+name, func() error {
		l, err := netlink.LinkByName(name)
		if err == nil {
			index, mac = l.Attrs().Index, l.Attrs().HardwareAddr
		}
		return err
	})
	return index, mac
}

// address gives an interface addresses.
func (m *machine) address(name string, addrs ...netip.Prefix) {
	m.t.Helper()
	m.do("give "+name+" addresses", func() error {
		l, err := netlink.LinkByName(name)
		for _, a := range addrs {
			if err == nil {
				err = netlink.AddrAdd(l, &netlink.Addr{IPNet: ipNet(a)})
			}
		}
		return err
	})
}

// neighbour makes a neighbour known for good.
func (m *machine) neighbour(name string, a netip.Addr, mac net.HardwareAddr) {
	m.t.Helper()
	m.do("tell "+name+" of "+a.String(), func() error {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		return netlink.NeighSet(&netlink.Neigh{LinkIndex: l.Attrs().Index, IP: a.AsSlice(), HardwareAddr: mac, State: netlink.NUD_PERMANENT, Family: unix.AF_INET})
	})
}

// attach puts a program on an interface, in native mode: a veth takes redirected frames only where one runs.
func (m *machine) attach(name string, p *ebpf.Program) {
	m.t.Helper()
	m.do("attach a program to "+name, func() error {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		return netlink.LinkSetXdpFdWithFlags(l, p.FD(), unix.XDP_FLAGS_DRV_MODE)
	})
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func must(t *testing.T, act string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", act, err)
	}
}
