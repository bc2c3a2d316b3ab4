package host

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tunneldirector/director/vip/sysctl"
)

// A piece is one thing of a host. Its key, in the state file, is all that is needed to find it again.
type piece interface {
	key() string
	String() string
	// read is "" where the thing is absent.
	read(v *view) (string, error)
	// write makes it so, whatever it is now; "" removes it.
	write(v *view, value string) error
	// object tells a thing that is somebody's from a setting, which always has some value.
	object() bool
	// same compares values as far as they are what we set.
	same(a, b string) bool
}

// parsePiece reads a key.
func parsePiece(key string) (piece, error) {
	kind, rest, _ := strings.Cut(key, " ")
	f := strings.Fields(rest)
	switch {
	case kind == "sysctl" && len(f) == 1:
		return setting{f[0]}, nil
	case kind == "up" && len(f) == 1:
		return upness{f[0]}, nil
	case kind == "link" && len(f) == 1:
		return device{f[0]}, nil
	case kind == "clamp":
		return clamp{}, nil
	case kind == "forwarding" && len(f) == 1:
		return forwarding{f[0] == "6"}, nil
	case kind == "address" && len(f) == 2:
		a, err := netip.ParseAddr(f[0])
		return address{a, f[1]}, err
	case kind == "route" && len(f) == 2:
		p, err := netip.ParsePrefix(f[0])
		t, bad := strconv.Atoi(f[1])
		return route{p, t}, errors.Join(err, bad)
	case kind == "rule" && len(f) == 3:
		t, err := strconv.Atoi(f[2])
		return rule{f[1], f[0] == "6", t}, err
	}
	return nil, fmt.Errorf("%q is not known", key)
}

// A setting is a number below /proc/sys.
type setting struct{ path string }

func (s setting) key() string                       { return "sysctl " + s.path }
func (s setting) String() string                    { return "sysctl " + sysctl.Setting{Path: s.path}.Name() }
func (s setting) read(v *view) (string, error)      { return v.setting(s.path) }
func (s setting) write(v *view, value string) error { return v.set(s.path, value) }
func (s setting) object() bool                      { return false }
func (s setting) same(a, b string) bool             { return a == b }

// An upness is whether a device is up.
type upness struct{ device string }

func (u upness) key() string           { return "up " + u.device }
func (u upness) String() string        { return "device " + u.device }
func (u upness) object() bool          { return false }
func (u upness) same(a, b string) bool { return a == b }

func (u upness) read(v *view) (string, error) {
	l, err := v.link(u.device)
	switch {
	case err != nil || l == nil:
		return "", err
	case l.Attrs().RawFlags&unix.IFF_UP != 0:
		return "up", nil
	}
	return "down", nil
}

func (u upness) write(v *view, value string) error {
	l, err := v.link(u.device)
	if err != nil || l == nil {
		return err
	}
	if value == "up" {
		return v.nl.LinkSetUp(l)
	}
	return v.nl.LinkSetDown(l)
}

// An address is one that only this host itself can use: of scope host in IPv4, deprecated in IPv6, so that the kernel chooses
// it for nothing that has not asked for it.
type address struct {
	addr   netip.Addr
	device string
}

func (a address) key() string           { return fmt.Sprintf("address %v %s", a.addr, a.device) }
func (a address) String() string        { return fmt.Sprintf("address %v on %s", a.addr, a.device) }
func (a address) object() bool          { return true }
func (a address) same(x, y string) bool { return x == y }
func (a address) want() string          { return single(a.addr).String() }

func (a address) read(v *view) (string, error) {
	list, err := v.addresses()
	for _, h := range list {
		if h.device == a.device && h.prefix == single(a.addr) {
			return h.prefix.String(), nil
		}
	}
	return "", err
}

func (a address) write(v *view, value string) error {
	l, err := v.link(a.device)
	if err == nil && l == nil && value != "" {
		err = fmt.Errorf("there is no interface %s", a.device)
	}
	if err != nil || l == nil {
		return err
	}
	addr := &netlink.Addr{IPNet: ipNet(single(a.addr)), Scope: unix.RT_SCOPE_HOST}
	if a.addr.Is6() {
		addr.Scope, addr.Flags, addr.ValidLft = unix.RT_SCOPE_UNIVERSE, unix.IFA_F_NODAD|unix.IFA_F_NOPREFIXROUTE, math.MaxUint32
	}
	if value == "" {
		err = v.nl.AddrDel(l, addr)
		if errors.Is(err, unix.EADDRNOTAVAIL) {
			return nil
		}
		return err
	}
	err = v.nl.AddrAdd(l, addr)
	if errors.Is(err, unix.EACCES) && a.addr.Is6() {
		return fmt.Errorf("%w; IPv6 is off there: %s", err, sysctl.Command(sysctl.Setting{Path: conf6(a.device, "disable_ipv6")}))
	}
	return err
}
