package xdp

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// ports are the interfaces as the kernel has them now. Run puts one that was made anew in the place of the old one; mu makes
// that one change for all who write the maps that name interfaces, or the hook's links.
//
//	there -> away -> there, by the same index or another
type ports struct {
	mu   sync.Mutex // guards td_vlans and td_devices after Open, the hook's links, and changes of list
	list atomic.Pointer[[]iface]
}

// all is a snapshot, in the order of Options.
func (p *ports) all() []iface { return *p.list.Load() }

// findPorts reads the interfaces anew. One that is away stays as it was, and is marked.
func findPorts(h *netlink.Handle, was []iface) ([]iface, error) {
	var now []iface
	for _, w := range was {
		i, err := readIface(h, w.Interface)
		if errors.As(err, &netlink.LinkNotFoundError{}) {
			i, err = w, nil
			i.away = true
		}
		if err != nil {
			return nil, err
		}
		now = append(now, i)
	}
	return now, nil
}

func devicesOf(list []iface) map[uint32]uint32 {
	devices := map[uint32]uint32{}
	for _, i := range list {
		if !i.away {
			devices[uint32(i.index)] = uint32(i.index)
		}
	}
	return devices
}

// refit brings what names interfaces up to date and puts the program on those that lost it. It returns sentences about
// those that it could not serve.
func (p *Plane) refit(now []iface) ([]string, error) {
	p.ports.mu.Lock()
	defer p.ports.mu.Unlock()
	was := p.ports.all()
	if err := p.moveVLANs(was, now); err != nil {
		return nil, err
	}
	if err := within(p.ns, func() error { return p.writeInterfaces(now) }); err != nil {
		return nil, err
	}
	p.ports.list.Store(&now)
	var sentences []string
	for n, i := range now {
		if i.away {
			sentences = append(sentences, fmt.Sprintf("interface %s is away: nothing comes or goes by it; it is used again as soon as it is there (ip link show %s)", i.Name, i.Name))
			continue
		}
		attached, err := p.refitOne(was[n], i)
		switch {
		case err != nil:
			sentences = append(sentences, fmt.Sprintf("interface %s was made anew, and the program is not on it: %v", i.Name, err))
		case attached || was[n].away:
			p.log.Info("interface is back, and the program on it", "interface", i.Name, "ifindex", i.index)
		}
	}
	return sentences, nil
}

func (p *Plane) refitOne(was, i iface) (attached bool, err error) {
	if was.index != i.index {
		p.hook.drop(was.index)
	}
	if p.hook.holds(i.index) {
		return false, nil
	}
	if p.hook.later {
		return false, errors.New("another layout forwards until the director has said what to forward")
	}
	p.hook.drop(i.index)
	return true, within(p.ns, func() error {
		if err := checkOffloads(i.Interface, p.options.FixOffloads); err != nil {
			return err
		}
		return p.hook.attach(i)
	})
}

// moveVLANs tells tenants by the indexes that interfaces have now.
func (p *Plane) moveVLANs(was, now []iface) error {
	moved := map[uint32]uint32{}
	for n := range was {
		if was[n].index != now[n].index {
			moved[uint32(was[n].index)] = uint32(now[n].index)
		}
	}
	if len(moved) == 0 {
		return nil
	}
	have, err := readSmall[forwardVlanKey, uint32](p.o.TdVlans)
	if err != nil {
		return err
	}
	want := map[forwardVlanKey]uint32{}
	for k, tenant := range have {
		if to, ok := moved[k.Ifindex]; ok {
			k.Ifindex = to
		}
		want[k] = tenant
	}
	if err := grow(p.o.TdVlans, want); err != nil {
		return err
	}
	return shrink(p.o.TdVlans, want)
}

// holds tells whether the program is on an interface.
func (h *hook) holds(ifindex int) bool {
	l, ok := h.links[ifindex]
	if !ok {
		return false
	}
	info, err := l.Info()
	if err != nil {
		return false
	}
	x := info.XDP()
	return x != nil && int(x.Ifindex) == ifindex
}

// drop forgets the link of an interface that is gone.
func (h *hook) drop(ifindex int) {
	l, ok := h.links[ifindex]
	if !ok {
		return
	}
	delete(h.links, ifindex)
	if err := errors.Join(l.Unpin(), l.Close()); err != nil {
		h.log.Warn("cannot remove the link of an interface that is gone", "ifindex", ifindex, "cause", err)
	}
}

// update puts the program in the place of another one; false: the interface is gone.
func (h *hook) update(l link.Link) (bool, error) {
	err := l.Update(h.prog)
	if errors.Is(err, unix.ENOLINK) {
		return false, nil
	}
	return err == nil, err
}

// within calls f in ns, where interfaces are found by name and attached to by index.
func within(ns netns.NsHandle, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		here, err := netns.Get()
		if err != nil {
			done <- fmt.Errorf("find the network namespace: %w", err)
			return
		}
		defer here.Close()
		if here.Equal(ns) {
			defer runtime.UnlockOSThread()
		} else if err := netns.Set(ns); err != nil { // else the thread ends with the goroutine
			done <- fmt.Errorf("enter the network namespace: %w", err)
			return
		}
		done <- f()
	}()
	return <-done
}
