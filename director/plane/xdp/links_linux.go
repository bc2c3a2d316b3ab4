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

	"tunneldirector/director/plane"
)

// settleTime is how long events are gathered before the keeper looks again; lookAnyway is when it does without any.
const (
	settleTime = 20 * time.Millisecond
	lookAnyway = 30 * time.Second
)

// A keeper keeps td_links, and by refit what names interfaces: how each real server is reached. It reads the kernel's routes and
// neighbours as they are; an event only says "look again". The neighbours are managed ones: the kernel probes them by
// itself for as long as they exist, the daemon running or not. A MAC address that was found stays until another is.
type keeper struct {
	log     *slog.Logger
	h       *netlink.Handle
	ports   *ports
	refit   func([]iface) ([]string, error) // nil: not this keeper's
	links   *ebpf.Map
	have    map[uint32]forwardLink // td_links as it is
	managed map[hop]bool           // neighbours that the kernel was asked to probe
}

// A hop is a neighbour.
type hop struct {
	ifindex int
	addr    netip.Addr
}

func newKeeper(p *Plane, h *netlink.Handle) (*keeper, error) {
	k := &keeper{log: p.log, h: h, ports: &p.ports, links: p.o.TdLinks,
		have: map[uint32]forwardLink{}, managed: map[hop]bool{}}
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
	k.refit = p.refit
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
			warnings, err := k.look(p.wanted.Load())
			if err != nil {
				k.log.Warn("cannot keep real servers reachable; trying again", "cause", err)
				timer.Reset(time.Second)
				continue
			}
			p.warn(warnings)
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
	_, err = k.look(p.wanted.Load())
	return err
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

// look brings td_links, and with refit what names interfaces, up to date. It returns sentences for Warnings.
func (k *keeper) look(wanted *[]plane.RealServer) (sentences []string, err error) {
	ifaces, err := findPorts(k.h, k.ports.all())
	if err != nil {
		return nil, err
	}
	if k.refit != nil {
		if sentences, err = k.refit(ifaces); err != nil {
			return nil, err
		}
	}
	if wanted == nil {
		return sentences, nil // nothing said yet: what there is goes on
	}
	n, err := k.network(ifaces)
	if err != nil {
		return nil, err
	}
	more, err := k.reachAll(n, *wanted)
	return append(sentences, more...), err
}

// reachAll makes td_links say how to reach each of wanted.
func (k *keeper) reachAll(n *network, wanted []plane.RealServer) (sentences []string, err error) {
	mtus := newMTUCheck(n.ifaces)
	keep, hops := map[uint32]bool{}, map[hop]bool{}
	for _, rs := range wanted {
		for _, v6 := range []bool{false, true} {
			a := reachedBy(rs, v6)
			if !a.IsValid() {
				continue
			}
			i := linkIndex(rs.Index, v6)
			keep[i] = true
			w, err := k.reach(a, n)
			if hops[w.via] = true; err != nil {
				sentences = append(sentences, fmt.Sprintf("no way to real server %s: %v", rs.Name, err))
			}
			mtus.see(rs, w, v6)
			if err := k.write(i, k.merged(i, w.link, linkTag(a), n)); err != nil {
				return nil, err
			}
		}
	}
	for i := range k.have {
		if !keep[i] {
			if err := k.write(i, forwardLink{}); err != nil {
				return nil, err
			}
		}
	}
	if len(sentences) == 0 { // while a way is not found, its old neighbour stays as fresh as it was
		k.release(hops, n)
	}
	return append(sentences, mtus.sentences()...), nil
}

// A network is what the kernel knows at one look.
type network struct {
	ifaces     []iface
	out        map[int]iface // those that lead to real servers, by index
	neighbours map[hop]netlink.Neigh
}

func (k *keeper) network(ifaces []iface) (*network, error) {
	neighbours, err := k.neighbours()
	if err != nil {
		return nil, err
	}
	n := &network{ifaces, map[int]iface{}, neighbours}
	for _, i := range ifaces {
		if i.Roles&plane.RoleRealServers != 0 && !i.away {
			n.out[i.index] = i
		}
	}
	return n, nil
}

// merged keeps the MAC address that was known where none is known now for the same address, unless its interface is gone.
func (k *keeper) merged(i uint32, l forwardLink, tag uint32, n *network) forwardLink {
	old := k.have[i]
	if _, there := n.out[int(old.Ifindex)]; there && l.Known == 0 && old.Known != 0 && old.Tag == tag {
		return old
	}
	return l
}

// A way is how an address is reached; link is zero as long as the neighbour's MAC address is not known.
type way struct {
	link  forwardLink
	via   hop
	iface iface
	mtu   int // the interface's, or the route's where that is smaller
}

// reach is the way to address a: by the kernel's route, to the neighbour that is next.
func (k *keeper) reach(a netip.Addr, n *network) (w way, err error) {
	routes, err := k.h.RouteGet(a.AsSlice())
	if err == nil && len(routes) == 0 {
		err = unix.ENETUNREACH
	}
	if err != nil {
		return w, fmt.Errorf("find a route to %v: %w", a, err)
	}
	route, ok := routes[0], false
	if w.iface, ok = n.out[route.LinkIndex]; !ok {
		l, err := k.h.LinkByIndex(route.LinkIndex)
		if err != nil {
			return w, fmt.Errorf("the route to %v leaves by interface %d: %w", a, route.LinkIndex, err)
		}
		return w, elsewhere(a, l, n)
	}
	w.via, w.mtu = hop{route.LinkIndex, a}, w.iface.mtu
	if route.MTU > 0 {
		w.mtu = min(w.mtu, route.MTU)
	}
	neighbour := uint8(1)
	if gw, ok := netip.AddrFromSlice(route.Gw); ok && gw.Unmap() != a {
		w.via.addr, neighbour = gw.Unmap(), 0
	}
	neigh := n.neighbours[w.via]
	if err := k.manage(w.via, neigh); err != nil {
		return w, err
	}
	if len(neigh.HardwareAddr) != 6 || neigh.State&(netlink.NUD_INCOMPLETE|netlink.NUD_FAILED) != 0 || neigh.State == netlink.NUD_NONE {
		return w, nil
	}
	w.link = forwardLink{Mac: [6]uint8(neigh.HardwareAddr), Known: 1, Smac: w.iface.mac, Neighbour: neighbour, Ifindex: uint32(w.iface.index), Mtu: uint32(w.mtu), Tag: linkTag(a)}
	if src, ok := netip.AddrFromSlice(route.Src); ok {
		w.link.Source = encodeAddr(src.Unmap())
	}
	return w, nil
}

// elsewhere says why a route by l, which is not for real servers, is of no use.
func elsewhere(a netip.Addr, l netlink.Link, n *network) error {
	name := l.Attrs().Name
	if v, ok := l.(*netlink.Vlan); ok {
		if parent, ok := n.out[l.Attrs().ParentIndex]; ok {
			return fmt.Errorf("the route to %v leaves by %s, VLAN %d of interface %s, and plane xdp sends to real servers without a tag: "+
				"let the switch give that VLAN to %s without a tag, or give it an interface of its own with the role real-servers, and move the address and routes of %s there: %w",
				a, name, v.VlanId, parent.Name, parent.Name, name, plane.ErrUnsupported)
		}
	}
	return fmt.Errorf("the route to %v leaves by interface %s, which has not the role real-servers: give it that role, or correct the route (ip route get %v)", a, name, a)
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
func (k *keeper) release(used map[hop]bool, n *network) {
	for via := range k.managed {
		if used[via] {
			continue
		}
		delete(k.managed, via)
		if _, there := n.out[via.ifindex]; !there {
			continue
		}
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
