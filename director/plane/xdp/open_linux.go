package xdp

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"tunneldirector/director/plane"
)

// layout is the version of the maps' contents. Raise it with every change of what a map holds that there is already: what is
// pinned under another one is never read, only replaced. A map that is new changes nothing that is pinned, and is made beside
// it. Nor does a field in what was padding, where 0 is safe until Run has written another value (neighbour of td_links).
const layout = "v2"

// Open loads the program, adopts or makes its maps, and attaches it to the interfaces, which go on forwarding what they
// forward. It works in the network namespace of the calling thread. After Open, Run keeps real servers reachable, and Replace says
// what to forward.
func Open(o Options) (*Plane, error) {
	o = o.withDefaults()
	if err := checkKernel(); err != nil {
		return nil, err
	}
	p := &Plane{options: o, log: o.Logger, poke: make(chan struct{}, 1)}
	if err := p.findInterfaces(); err != nil {
		return nil, err
	}
	dir := o.layoutDir()
	_, err := os.Stat(dir)
	fresh := errors.Is(err, os.ErrNotExist)
	mounted, err := makePinPath(dir)
	if err != nil {
		return nil, errors.Join(err, p.ns.Close())
	}
	if mounted {
		p.log.Info("mounted bpffs", "path", bpffs)
	}
	if err := p.load(dir, &p.o); err != nil {
		return nil, errors.Join(err, p.ns.Close(), undo(fresh, dir))
	}
	p.hook = &hook{log: p.log, root: o.PinPath, dir: dir, prog: p.o.TdForward, links: map[int]link.Link{}}
	if err := p.start(); err != nil {
		p.hook.close()
		return nil, errors.Join(err, p.o.Close(), p.ns.Close(), undo(fresh, dir))
	}
	return p, nil
}

// layoutDir is where what forwards is pinned.
func (o Options) layoutDir() string {
	return filepath.Join(o.PinPath, fmt.Sprintf("%s-%d-%d", layout, o.MaxPins, o.MaxSubnets))
}

// undo removes what a failed Open has pinned where nothing was before, and so detaches what it attached.
func undo(fresh bool, dir string) error {
	if !fresh {
		return nil
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove %s: %w", dir, err)
	}
	_ = os.Remove(filepath.Dir(dir)) // refused where there is another layout, as it should be
	return nil
}

func (p *Plane) findInterfaces() (err error) {
	if p.ns, err = netns.Get(); err != nil {
		return fmt.Errorf("open plane xdp: find the network namespace: %w", err)
	}
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return errors.Join(fmt.Errorf("open plane xdp: %w", err), p.ns.Close())
	}
	defer h.Close()
	list, err := readIfaces(h, p.options.Interfaces)
	if err != nil {
		return errors.Join(err, p.ns.Close())
	}
	p.ports.list.Store(&list)
	for _, i := range p.options.Interfaces {
		if err := checkOffloads(i, p.options.FixOffloads); err != nil {
			return errors.Join(err, p.ns.Close())
		}
	}
	return nil
}

// shownPerWindow is how many packets of one reason each of so many CPUs shows in a window of 2^27 ns (shown_per_window of sample.h): all
// together about 480 a second, however many they are, and no CPU more than 120.
func shownPerWindow(cpus int) uint32 { return uint32(min(16, max(1, 64/cpus))) }

// load makes the maps that are not pinned yet, and the programs over them: all of p.o, or the part of it that is given.
func (p *Plane) load(dir string, part any) error {
	spec, err := loadForward()
	if err != nil {
		return fmt.Errorf("read the program: %w", err)
	}
	bigMaps(spec, p.options)
	if err := spec.Variables[forwardVarShownPerWindow].Set(shownPerWindow(runtime.NumCPU())); err != nil {
		return fmt.Errorf("say how many packets to show: %w", err)
	}
	for _, m := range spec.Maps {
		if !strings.HasPrefix(m.Name, ".") {
			m.Pinning = ebpf.PinByName
		}
	}
	err = spec.LoadAndAssign(part, &ebpf.CollectionOptions{Maps: ebpf.MapOptions{PinPath: dir}})
	switch {
	case errors.Is(err, ebpf.ErrMapIncompatible):
		err = fmt.Errorf("the maps pinned in %s are not of this program; remove them (director uninstall): %w", dir, err)
	case errors.Is(err, os.ErrPermission):
		err = fmt.Errorf("the kernel refuses; CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON are needed, and no lockdown: %w: %w", plane.ErrUnsupported, err)
	case errors.Is(err, unix.ENOMEM):
		err = fmt.Errorf("no memory for tables of %d pins and %d subnets; lower MaxPins and MaxSubnets, or raise the memory limit: %w",
			p.options.MaxPins, p.options.MaxSubnets, err)
	case errors.Is(err, ebpf.ErrNotSupported):
		err = fmt.Errorf("%w: %w", plane.ErrUnsupported, err)
	}
	if err != nil {
		return fmt.Errorf("load the program: %w", err)
	}
	return nil
}

// start reads what the maps hold and puts the program to work.
func (p *Plane) start() error {
	p.small = newSmall(&p.o, &p.ports)
	p.servers = newServers(&p.o)
	p.pins = newPins(&p.o, p.small.number, p.small.known, p.small.ported)
	p.subnets = newSubnets(&p.o)
	if err := p.census(); err != nil {
		return err
	}
	if err := p.writeInterfaces(p.ports.all()); err != nil {
		return err
	}
	if err := p.unwatch(); err != nil { // who watched was told by the daemon before
		return err
	}
	if err := p.hook.hold(p.ports.all()); err != nil {
		return err
	}
	for name, mode := range p.Modes() {
		p.log.Info("attached", "interface", name, "mode", mode)
	}
	return nil
}

func (p *Plane) writeInterfaces(list []iface) error {
	if err := grow(p.o.TdIfaces, encodeIfaces(list)); err != nil {
		return err
	}
	devices := devicesOf(list)
	if err := grow(p.o.TdDevices, devices); err != nil {
		return err
	}
	if err := shrink(p.o.TdDevices, devices); err != nil {
		return err
	}
	return shrink(p.o.TdIfaces, encodeIfaces(list))
}

// Modes tells how the program runs on each interface: native or generic; "" where it does not.
func (p *Plane) Modes() map[string]string {
	modes := map[string]string{}
	h, err := netlink.NewHandleAt(p.ns, unix.NETLINK_ROUTE)
	if err != nil {
		return modes
	}
	defer h.Close()
	for _, i := range p.ports.all() {
		modes[i.Name] = ""
		if l, err := h.LinkByIndex(i.index); err == nil {
			modes[i.Name] = modeOf(l.Attrs().Xdp)
		}
	}
	return modes
}
