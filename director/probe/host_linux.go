package probe

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"slices"

	mdnetlink "github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"tunneldirector/director/plane"
	"tunneldirector/director/vip/dump"
)

// A linux is a host: packet sockets, and rtnetlink for what they stand on. All but Run belongs to the loop.
type linux struct {
	cfg     Config
	ns      netns.NsHandle // where sockets are opened, whichever thread it happens on
	rtnl    *netlink.Handle
	monitor *mdnetlink.Conn
	changed chan struct{}
	sockets map[string]*socket
}

// mayOpenSockets tells now what would else be told at each look.
func mayOpenSockets() error {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w: packet sockets need the capability CAP_NET_RAW (%w); run as root, or give it to the process "+
			"(systemd: AmbientCapabilities=CAP_NET_RAW, containers: --cap-add NET_RAW)", plane.ErrUnsupported, err)
	case errors.Is(err, unix.EAFNOSUPPORT):
		return fmt.Errorf("%w: the kernel has no packet sockets (%w); load the module af_packet, or take a kernel with CONFIG_PACKET", plane.ErrUnsupported, err)
	case err != nil:
		return fmt.Errorf("open a packet socket: %w", err)
	}
	return unix.Close(fd)
}

func openHost(cfg Config) (host, error) {
	if err := mayOpenSockets(); err != nil {
		return nil, err
	}
	ns, err := netns.Get()
	if err != nil {
		return nil, fmt.Errorf("find the network namespace: %w", err)
	}
	rtnl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open rtnetlink: %w", err), ns.Close())
	}
	monitor, err := mdnetlink.Dial(unix.NETLINK_ROUTE, &mdnetlink.Config{Groups: unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR})
	if err != nil {
		rtnl.Close()
		return nil, errors.Join(fmt.Errorf("watch interfaces: %w", err), ns.Close())
	}
	return &linux{cfg: cfg, ns: ns, rtnl: rtnl, monitor: monitor, changed: make(chan struct{}, 1), sockets: map[string]*socket{}}, nil
}

func (h *linux) Changed() <-chan struct{} { return h.changed }

// Watch pokes Changed for whatever the kernel tells about interfaces and addresses, and when it has told too much.
func (h *linux) Watch(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { h.monitor.Close() })
	defer stop()
	for {
		_, err := h.monitor.Receive()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil && !errors.Is(err, unix.ENOBUFS) {
			return fmt.Errorf("watch interfaces: %w", err)
		}
		select {
		case h.changed <- struct{}{}:
		default: // poked already
		}
	}
}

func (h *linux) Receive(f func(answer)) {
	for _, s := range h.sockets {
		s.receive(f)
	}
}

func (h *linux) Close() error {
	errs := []error{h.ns.Close()}
	if err := h.monitor.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		errs = append(errs, err)
	}
	for _, s := range h.sockets {
		errs = append(errs, s.close())
	}
	h.rtnl.Close()
	return errors.Join(errs...)
}

func (h *linux) Send(name string, frame []byte) error {
	s := h.sockets[name]
	if s == nil {
		return fmt.Errorf("no packet socket on %s", name)
	}
	return s.send(frame)
}

func (h *linux) Look(addrs []netip.Addr) (view, error) {
	v := view{ifaces: map[string]*iface{}, hops: map[netip.Addr]hop{}}
	links, err := dump.Whole(func() ([]netlink.Link, error) { return h.rtnl.LinkList() })
	if err != nil {
		return view{}, fmt.Errorf("list interfaces: %w", err)
	}
	list, err := dump.Whole(func() ([]netlink.Addr, error) { return h.rtnl.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return view{}, fmt.Errorf("list addresses: %w", err)
	}
	names := map[int]string{}
	for _, l := range links {
		a := l.Attrs()
		names[a.Index] = a.Name
		const running = unix.IFF_UP | unix.IFF_LOWER_UP
		v.ifaces[a.Name] = &iface{name: a.Name, index: a.Index, mac: a.HardwareAddr, up: a.RawFlags&running == running}
	}
	for _, a := range list {
		ip, ok := netip.AddrFromSlice(a.IP)
		ones, bits := a.Mask.Size()
		// A VIP that we hold is no address to ask from: it is a single, deprecated one.
		if i := v.ifaces[names[a.LinkIndex]]; ok && i != nil && a.Flags&unix.IFA_F_DEPRECATED == 0 {
			if ip = ip.Unmap(); bits == 128 && ip.Is4() {
				ones -= 96
			}
			i.addrs = append(i.addrs, netip.PrefixFrom(ip, ones))
		}
	}
	for _, a := range addrs {
		if _, ok := v.hops[a]; !ok {
			v.hops[a] = h.hop(a, v, names)
		}
	}
	return v, h.open(v)
}

// hop is the way to an address: on a segment of the configured interfaces, else as the kernel would route.
func (h *linux) hop(a netip.Addr, v view, names map[int]string) hop {
	for _, name := range h.cfg.Interfaces {
		if i := v.ifaces[name]; i != nil && slices.ContainsFunc(i.addrs, func(p netip.Prefix) bool { return p.Contains(a) && !p.IsSingleIP() }) {
			return hop{iface: name, via: a}
		}
	}
	routes, err := h.rtnl.RouteGet(a.AsSlice())
	if err != nil || len(routes) == 0 {
		return hop{via: a, err: fmt.Errorf("no route to %v: %w", a, err)}
	}
	name := names[routes[0].LinkIndex]
	if i := v.ifaces[name]; i == nil || len(i.mac) != 6 {
		return hop{via: a, err: fmt.Errorf("the way to %v is by %s, which has no Ethernet", a, name)}
	}
	if gw, ok := netip.AddrFromSlice(routes[0].Gw); ok {
		return hop{iface: name, via: gw.Unmap()}
	}
	return hop{iface: name, via: a}
}

// open has a socket on each interface that a way uses, for the interface as it is now.
func (h *linux) open(v view) error {
	var errs []error
	used := map[string]bool{}
	for _, w := range v.hops {
		used[w.iface] = w.iface != ""
	}
	for name, s := range h.sockets {
		i := v.ifaces[name]
		if i != nil && used[name] && i.index == s.iface.index && slices.Equal(i.mac, s.iface.mac) {
			if !slices.Equal(i.addrs, s.iface.addrs) {
				errs = append(errs, s.refilter(i))
			}
			continue
		}
		errs = append(errs, s.close())
		delete(h.sockets, name)
	}
	for name, is := range used {
		if i := v.ifaces[name]; is && h.sockets[name] == nil && i != nil && len(i.mac) == 6 {
			errs = append(errs, h.openOn(i))
		}
	}
	return errors.Join(errs...)
}

// openOn opens a socket in our namespace, on a thread that is thrown away.
func (h *linux) openOn(i *iface) error {
	done := make(chan error)
	var s *socket
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
		err := netns.Set(h.ns)
		if err == nil {
			s, err = openSocket(i)
		}
		done <- err
	}()
	if err := <-done; err != nil {
		return err
	}
	h.sockets[i.name] = s
	return nil
}

// own are an interface's addresses.
func (i *iface) own() (out []netip.Addr) {
	for _, p := range i.addrs {
		out = append(out, p.Addr())
	}
	return out
}
