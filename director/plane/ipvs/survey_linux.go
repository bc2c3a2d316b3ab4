package ipvs

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"tunneldirector/director/plane"
	"tunneldirector/director/vip/dump"
)

// A land is what lies before the interfaces towards real servers.
type land struct {
	ns    netns.NsHandle
	h     *netlink.Handle
	links []string

	prefixes map[netip.Prefix]string // connected -> interface
	leaves   map[netip.Addr]bool     // what Leaves found since the last Survey
}

func openLand(interfaces []plane.Interface) (*land, error) {
	l := &land{}
	for _, i := range interfaces {
		if i.Roles&plane.RoleRealServers != 0 {
			l.links = append(l.links, i.Name)
		}
	}
	var err error
	if l.ns, err = netns.Get(); err != nil {
		return nil, err
	}
	if l.h, err = netlink.NewHandleAt(l.ns, unix.NETLINK_ROUTE); err != nil {
		return nil, errors.Join(err, l.ns.Close())
	}
	return l, l.Survey()
}

// Survey reads the addresses of the interfaces towards real servers. One that is absent has none.
func (l *land) Survey() error {
	l.prefixes, l.leaves = map[netip.Prefix]string{}, map[netip.Addr]bool{}
	for _, name := range l.links {
		link, err := l.h.LinkByName(name)
		if errors.As(err, &netlink.LinkNotFoundError{}) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read interface %s: %w", name, err)
		}
		addrs, err := dump.Whole(func() ([]netlink.Addr, error) { return l.h.AddrList(link, netlink.FAMILY_ALL) })
		if err != nil {
			return fmt.Errorf("read the addresses of interface %s: %w", name, err)
		}
		for _, a := range addrs {
			if ip, ok := netip.AddrFromSlice(a.IP); ok {
				ones, _ := a.Mask.Size()
				l.prefixes[netip.PrefixFrom(ip.Unmap(), ones).Masked()] = name
			}
		}
	}
	return nil
}

// Connected tells by which interface towards real servers a is reached without a router.
func (l *land) Connected(a netip.Addr) (link string, ok bool) {
	longest := -1
	for p, name := range l.prefixes {
		if p.Contains(a) && p.Bits() > longest {
			link, ok, longest = name, true, p.Bits()
		}
	}
	return link, ok
}

// Leaves tells whether packets to a leave by an interface towards real servers.
func (l *land) Leaves(a netip.Addr) bool {
	known, ok := l.leaves[a]
	if !ok {
		known = l.lookup(a)
		l.leaves[a] = known
	}
	return known
}

func (l *land) lookup(a netip.Addr) bool {
	routes, err := l.h.RouteGet(a.AsSlice())
	if err != nil || len(routes) != 1 {
		return false
	}
	link, err := l.h.LinkByIndex(routes[0].LinkIndex)
	return err == nil && slices.Contains(l.links, link.Attrs().Name)
}

// Neighbours are the MAC addresses that the kernel knows of those on the interfaces towards real servers.
func (l *land) Neighbours() (map[netip.Addr][6]byte, error) {
	out := map[netip.Addr][6]byte{}
	for _, name := range l.links {
		link, err := l.h.LinkByName(name)
		if errors.As(err, &netlink.LinkNotFoundError{}) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read interface %s: %w", name, err)
		}
		for _, f := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
			list, err := dump.Whole(func() ([]netlink.Neigh, error) { return l.h.NeighList(link.Attrs().Index, f) })
			if err != nil {
				return nil, fmt.Errorf("read the neighbours on interface %s: %w", name, err)
			}
			for _, n := range list {
				if a, mac, ok := known(n); ok {
					out[a] = mac
				}
			}
		}
	}
	return out, nil
}

// known is the neighbour of an entry; ok is false if the kernel does not know its MAC address (now).
func known(n netlink.Neigh) (a netip.Addr, mac [6]byte, ok bool) {
	a, ok = netip.AddrFromSlice(n.IP)
	if !ok || n.State&(netlink.NUD_INCOMPLETE|netlink.NUD_FAILED|netlink.NUD_NOARP) != 0 || n.State == netlink.NUD_NONE || len(n.HardwareAddr) != 6 {
		return a.Unmap(), mac, false
	}
	return a.Unmap(), [6]byte(n.HardwareAddr), true
}

// Watch calls changed whenever a link or an address of the interfaces towards real servers may have changed, or a neighbour's MAC address.
func (l *land) Watch(ctx context.Context, changed func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // of what is not ended yet
	links, addrs := make(chan netlink.LinkUpdate), make(chan netlink.AddrUpdate)
	if err := netlink.LinkSubscribeWithOptions(links, ctx.Done(), netlink.LinkSubscribeOptions{Namespace: &l.ns}); err != nil {
		return fmt.Errorf("watch links: %w", err)
	}
	if err := netlink.AddrSubscribeWithOptions(addrs, ctx.Done(), netlink.AddrSubscribeOptions{Namespace: &l.ns}); err != nil {
		return fmt.Errorf("watch addresses: %w", err)
	}
	ours := map[int]bool{} // interfaces towards real servers, by index
	for _, name := range l.links {
		if link, err := l.h.LinkByName(name); err == nil { // else it is told of when it comes
			ours[link.Attrs().Index] = true
		}
	}
	neighbours, macs := make(chan netlink.NeighUpdate), map[netip.Addr][6]byte{}
	if err := netlink.NeighSubscribeWithOptions(neighbours, ctx.Done(), netlink.NeighSubscribeOptions{Namespace: &l.ns, ReceiveBufferSize: 1 << 20, ReceiveBufferForceSize: true}); err != nil {
		return fmt.Errorf("watch neighbours: %w", err)
	}
	for {
		select {
		case u, ok := <-links:
			if !ok {
				return ended(ctx, "links")
			}
			if slices.Contains(l.links, u.Attrs().Name) {
				ours[u.Attrs().Index] = u.Header.Type != unix.RTM_DELLINK
				changed()
			}
		case _, ok := <-addrs:
			if !ok {
				return ended(ctx, "addresses")
			}
			changed()
		case u, ok := <-neighbours:
			if !ok {
				return ended(ctx, "neighbours")
			}
			if !ours[u.LinkIndex] {
				continue
			}
			a, mac, is := known(u.Neigh)
			is = is && u.Type != unix.RTM_DELNEIGH
			was, had := macs[a]
			if is == had && (!is || mac == was) { // most events are of the kernel asking whether all is as before
				continue
			}
			if delete(macs, a); is {
				macs[a] = mac
			}
			changed()
		}
	}
}

func ended(ctx context.Context, what string) error {
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("watch %s: the kernel ended it", what)
}

func (l *land) Close() error {
	l.h.Close()
	return l.ns.Close()
}
