package host

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tunneldirector/director/vip/dump"
	"tunneldirector/realserver/space"
)

// A view is what a thread sees that is in a network namespace. It is good within look only.
type view struct {
	nl    *netlink.Handle
	space space.Space
}

func look(s space.Space, f func(*view) error) error {
	return s.Do(func() error {
		nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return fmt.Errorf("open rtnetlink: %w", err)
		}
		defer nl.Close()
		return f(&view{nl, s})
	})
}

// life tells a namespace from the one that had its name before, and this start of the host from the last.
func (v *view) life() (string, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("tell this start of the host: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &st); err != nil {
		return "", fmt.Errorf("tell the network namespace: %w", err)
	}
	return fmt.Sprintf("%s %d", strings.TrimSpace(string(boot)), st.Ino), nil
}

// setting reads a file below /proc/sys; the part below net is the thread's namespace's. "" if there is none.
func (v *view) setting(path string) (string, error) {
	b, err := os.ReadFile(filepath.Join("/proc/sys", path))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSpace(string(b)), err
}

// number is a setting that is a number; -1 if there is none.
func (v *view) number(path string) int {
	s, err := v.setting(path)
	n, bad := strconv.Atoi(s)
	if err != nil || bad != nil {
		return -1
	}
	return n
}

// set writes a setting. One that went with its device is no error.
func (v *view) set(path, value string) error {
	f, err := os.OpenFile(filepath.Join("/proc/sys", path), os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

func conf4(device, name string) string { return "net/ipv4/conf/" + device + "/" + name }

func conf6(device, name string) string { return "net/ipv6/conf/" + device + "/" + name }

// highest is how the kernel combines most settings of IPv4: the maximum of all and the interface's.
func (v *view) highest(device, name string) int {
	return max(v.number(conf4("all", name)), v.number(conf4(device, name)))
}

// link is nil where there is none of that name.
func (v *view) link(name string) (netlink.Link, error) {
	l, err := v.nl.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("find interface %s: %w", name, err)
	}
	return l, nil
}

// A holding is an address on a device.
type holding struct {
	device string
	index  int
	prefix netip.Prefix
	scope  int
}

// addresses are all of the namespace.
func (v *view) addresses() ([]holding, error) {
	names := map[int]string{}
	links, err := dump.Whole(func() ([]netlink.Link, error) { return v.nl.LinkList() })
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	list, err := dump.Whole(func() ([]netlink.Addr, error) { return v.nl.AddrList(nil, unix.AF_UNSPEC) })
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	var out []holding
	for _, a := range list {
		if a.IPNet != nil {
			out = append(out, holding{names[a.LinkIndex], a.LinkIndex, prefixOf(a.IPNet), a.Scope})
		}
	}
	return out, nil
}

func prefixOf(n *net.IPNet) netip.Prefix {
	a, _ := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(a.Unmap(), bits)
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

func family(v6 bool) int {
	if v6 {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

func number(v6 bool) string {
	if v6 {
		return "6"
	}
	return "4"
}
