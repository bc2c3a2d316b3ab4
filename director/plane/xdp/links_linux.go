package xdp

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
)

// settleTime is how long events are gathered before the keeper looks again; lookAnyway is when it does without any.
const (
	settleTime = 20 * time.Millisecond
	lookAnyway = 30 * time.Second
)

// A keeper keeps td_links and, after Open, td_ifaces: how each real server is reached. It reads the kernel's routes and
// neighbours as they are; an event only says "look again". The neighbours are managed ones: the kernel probes them by
// itself for as long as they exist, the daemon running or not. A MAC address that was found stays until another is.
type keeper struct {
	log     *slog.Logger
	h       *netlink.Handle
	list    []iface // as Open found them
	links   *ebpf.Map
	ifmap   *ebpf.Map
	have    map[uint32]forwardLink // td_links as it is
	managed map[hop]bool           // neighbours that the kernel was asked to probe
	told    map[affinity.Index]string
}

// A hop is a neighbour.
type hop struct {
	ifindex int
	addr    netip.Addr
}

func newKeeper(p *Plane, h *netlink.Handle) (*keeper, error) {
	k := &keeper{log: p.log, h: h, list: p.ifaces, links: p.o.TdLinks, ifmap: p.o.TdIfaces,
		have: map[uint32]forwardLink{}, managed: map[hop]bool{}, told: map[affinity.Index]string{}}
	t := table[uint32, forwardLink]{m: k.links, name: "td_links"}
	return k, t.all(func(i uint32, v forwardLink) bool {
		if v != (forwardLink{}) {
			k.have[i] = v
		}
		return true
	})
}

// Run keeps real servers reachable until ctx ends. What it found stays in force after that.
func (p *Plane) Run(ctx context.Context) error {
	h, err := netlink.NewHandleAt(p.ns, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("watch real servers: %w", err)
	}
	defer h.Close()
	k, err := newKeeper(p, h)
	if err != nil {
		return err
	}
	events, stop, err := subscribe(p.ns)
	if err != nil {
		return err
	}
	defer func() { stop() }()
	timer := time.NewTimer(0)
	defer timer.Stop()
	soon := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.poke:
			soon = true
			timer.Reset(0)
		case _, ok := <-events:
			if !ok { // too many at once; the next look makes up for what was missed
				stop()
				if events, stop, err = subscribe(p.ns); err != nil {
					return err
				}
			}
			if !soon {
				soon = true
				timer.Reset(settleTime)
			}
		case <-timer.C:
			soon = false
			timer.Reset(lookAnyway)
			if err := k.look(p.wanted.Load()); err != nil {
				k.log.Warn("cannot keep real servers reachable; trying again", "cause", err)
				timer.Reset(time.Second)
			}
		}
	}
}

// lookOnce fills a new layout's links from the neighbours that the kernel has, before it takes over. Run may do the same
// at the same time: both write what the kernel says.
func (p *Plane) lookOnce() error {
	h, err := netlink.NewHandleAt(p.ns, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("look for real servers: %w", err)
	}
	defer h.Close()
	k, err := newKeeper(p, h)
	if err != nil {
		return err
	}
	return k.look(p.wanted.Load())
}

// subscribe gives one channel for all events of links, addresses, routes and neighbours.
func subscribe(ns netns.NsHandle) (<-chan struct{}, func(), error) {
	done := make(chan struct{})
	stop := func() { close(done) }
	out := make(chan struct{}, 1)
	neighbours, routes := make(chan netlink.NeighUpdate, 64), make(chan netlink.RouteUpdate, 64)
	links, addrs := make(chan netlink.LinkUpdate, 64), make(chan netlink.AddrUpdate, 64)
	for _, start := range []func() error{
		func() error {
			return netlink.NeighSubscribeWithOptions(neighbours, done, netlink.NeighSubscribeOptions{Namespace: &ns})
		},
		func() error {
			return netlink.RouteSubscribeWithOptions(routes, done, netlink.RouteSubscribeOptions{Namespace: &ns})
		},
		func() error {
			return netlink.LinkSubscribeWithOptions(links, done, netlink.LinkSubscribeOptions{Namespace: &ns})
		},
		func() error {
			return netlink.AddrSubscribeWithOptions(addrs, done, netlink.AddrSubscribeOptions{Namespace: &ns})
		},
	} {
		if err := start(); err != nil {
			stop()
			return nil, nil, fmt.Errorf("subscribe to the kernel's events: %w", err)
		}
	}
	go func() {
		defer close(out)
		open := true
		for open {
			select {
			case _, open = <-neighbours:
			case _, open = <-routes:
			case _, open = <-links:
			case _, open = <-addrs:
			}
			select {
			case out <- struct{}{}:
			default:
			}
		}
	}()
	return out, stop, nil
}

// look brings td_links and td_ifaces up to date.
func (k *keeper) look(wanted *[]plane.RealServer) error {
	var ifaces []iface
	for _, was := range k.list {
		i, err := readIface(k.h, was.Interface)
		if err != nil {
			return err
		}
		if i.index != was.index {
			return fmt.Errorf("interface %s was made anew, and the program is not on it; restart the director", i.Name)
		}
		ifaces = append(ifaces, i)
	}
	if err := grow(k.ifmap, encodeIfaces(ifaces)); err != nil {
		return err
	}
	if wanted == nil {
		return nil // nothing said yet: what there is goes on
	}
	neighbours, err := k.neighbours()
	if err != nil {
		return err
	}
	out := map[int]iface{}
	for _, i := range ifaces {
		if i.Roles&plane.RoleRealServers != 0 {
			out[i.index] = i
		}
	}
	keep := map[uint32]bool{}
	hops, lost := map[hop]bool{}, false
	for _, rs := range *wanted {
		for _, v6 := range []bool{false, true} {
			a := reachedBy(rs, v6)
			if !a.IsValid() {
				continue
			}
			i := linkIndex(rs.Index, v6)
			keep[i] = true
			l, via, err := k.reach(rs, a, out, neighbours)
			if hops[via] = true; err != nil {
				k.complain(rs, err)
				lost = true
			}
			if err := k.write(i, k.merged(i, l, linkTag(a))); err != nil {
				return err
			}
		}
	}
	for i := range k.have {
		if !keep[i] {
			if err := k.write(i, forwardLink{}); err != nil {
				return err
			}
		}
	}
	if !lost { // while a way is not found, its old neighbour stays as fresh as it was
		clear(k.told)
		k.release(hops)
	}
	return nil
}

// merged keeps the MAC address that was known where none is known now for the same address.
func (k *keeper) merged(i uint32, l forwardLink, tag uint32) forwardLink {
	if old := k.have[i]; l.Known == 0 && old.Known != 0 && old.Tag == tag {
		return old
	}
	return l
}

func (k *keeper) complain(rs plane.RealServer, err error) {
	if k.told[rs.Index] != err.Error() {
		k.told[rs.Index] = err.Error()
		k.log.Warn("no way to a real server", "name", rs.Name, "index", rs.Index, "cause", err)
	}
}

// reach is the way to address a: by the kernel's route, to the neighbour that is next.
func (k *keeper) reach(rs plane.RealServer, a netip.Addr, out map[int]iface, neighbours map[hop]netlink.Neigh) (forwardLink, hop, error) {
	routes, err := k.h.RouteGet(a.AsSlice())
	if err != nil || len(routes) == 0 {
		return forwardLink{}, hop{}, fmt.Errorf("find a route to %v: %w", a, err)
	}
	route := routes[0]
	i, ok := out[route.LinkIndex]
	if !ok {
		return forwardLink{}, hop{}, fmt.Errorf("the route to %v leaves by interface %d, which has not the role real-servers", a, route.LinkIndex)
	}
	next := hop{route.LinkIndex, a}
	if gw, ok := netip.AddrFromSlice(route.Gw); ok {
		next.addr = gw.Unmap()
	}
	n := neighbours[next]
	if err := k.manage(next, n); err != nil {
		return forwardLink{}, next, err
	}
	if len(n.HardwareAddr) != 6 || n.State&(netlink.NUD_INCOMPLETE|netlink.NUD_FAILED) != 0 || n.State == netlink.NUD_NONE {
		return forwardLink{}, next, nil
	}
	l := forwardLink{Mac: [6]uint8(n.HardwareAddr), Known: 1, Smac: i.mac, Ifindex: uint32(i.index), Mtu: uint32(i.mtu), Tag: linkTag(a)}
	if src, ok := netip.AddrFromSlice(route.Src); ok {
		l.Source = encodeAddr(src.Unmap())
	}
	return l, next, nil
}

// manage asks the kernel to keep a neighbour fresh by itself.
func (k *keeper) manage(via hop, n netlink.Neigh) error {
	if n.FlagsExt&netlink.NTF_EXT_MANAGED != 0 || n.State&(netlink.NUD_PERMANENT|netlink.NUD_NOARP) != 0 {
		return nil
	}
	k.managed[via] = true
	err := k.h.NeighSet(&netlink.Neigh{LinkIndex: via.ifindex, IP: via.addr.AsSlice(), FlagsExt: netlink.NTF_EXT_MANAGED})
	if err != nil {
		return fmt.Errorf("have the kernel probe neighbour %v: %w", via.addr, err)
	}
	return nil
}

// release gives neighbours back that no real server needs: they age like any other.
func (k *keeper) release(used map[hop]bool) {
	for via := range k.managed {
		if used[via] {
			continue
		}
		delete(k.managed, via)
		err := k.h.NeighSet(&netlink.Neigh{LinkIndex: via.ifindex, IP: via.addr.AsSlice(), Flags: netlink.NTF_USE})
		if err != nil {
			k.log.Warn("cannot stop the kernel from probing a neighbour", "address", via.addr, "cause", err)
		}
	}
}

func (k *keeper) neighbours() (map[hop]netlink.Neigh, error) {
	out := map[hop]netlink.Neigh{}
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		list, err := k.h.NeighList(0, family)
		if err != nil {
			return nil, fmt.Errorf("read the neighbours: %w", err)
		}
		for _, n := range list {
			if a, ok := netip.AddrFromSlice(n.IP); ok {
				out[hop{n.LinkIndex, a.Unmap()}] = n
			}
		}
	}
	return out, nil
}

func (k *keeper) write(i uint32, l forwardLink) error {
	if k.have[i] == l {
		return nil
	}
	if err := k.links.Put(&i, &l); err != nil {
		return fmt.Errorf("write the way to real server %d: %w", i/2, err)
	}
	if l == (forwardLink{}) {
		delete(k.have, i)
	} else {
		k.have[i] = l
	}
	return nil
}
