package xdp

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
)

// A hook is the links that hold the program to the interfaces, pinned as DIR/if_INDEX.
//
//	no link        -> attach, pin
//	link in dir    -> update
//	link elsewhere -> keep what forwards until swap: update, move the pin, remove the other directory
type hook struct {
	log   *slog.Logger
	root  string
	dir   string
	prog  *ebpf.Program
	links map[int]link.Link
	later bool // another layout forwards until swap
}

const linkPrefix = "if_"

func (h *hook) path(ifindex int) string {
	return filepath.Join(h.dir, linkPrefix+strconv.Itoa(ifindex))
}

// others are the directories of other layouts.
func (h *hook) others() ([]string, error) {
	entries, err := os.ReadDir(h.root)
	if err != nil {
		return nil, fmt.Errorf("look for other layouts: %w", err)
	}
	var dirs []string
	for _, e := range entries {
		if d := filepath.Join(h.root, e.Name()); e.IsDir() && d != h.dir && strings.HasPrefix(e.Name(), "v") {
			dirs = append(dirs, d)
		}
	}
	return dirs, nil
}

// hold makes the program run on these interfaces and on no others.
func (h *hook) hold(ifaces []iface) error {
	dirs, err := h.others()
	if err != nil {
		return err
	}
	wanted := map[int]bool{}
	for _, i := range ifaces {
		wanted[i.index] = true
		if err := h.holdOne(i, dirs); err != nil {
			return err
		}
	}
	for _, dir := range append(dirs, h.dir) {
		if err := release(dir, func(ifindex int) bool { return !wanted[ifindex] }); err != nil {
			return err
		}
	}
	if len(dirs) > 0 && !h.later {
		return h.removeOthers()
	}
	return nil
}

func (h *hook) holdOne(i iface, dirs []string) error {
	l, err := adopt(h.path(i.index), i.index)
	if err != nil {
		return err
	}
	if l != nil {
		h.links[i.index] = l
		if err := l.Update(h.prog); err != nil {
			return fmt.Errorf("update the program on %s: %w", i.Name, err)
		}
		return nil
	}
	for _, dir := range dirs {
		l, err := adopt(filepath.Join(dir, filepath.Base(h.path(i.index))), i.index)
		if err != nil {
			return err
		}
		if l != nil {
			h.links[i.index], h.later = l, true
			return nil
		}
	}
	return h.attach(i)
}

// adopt opens a pinned link if it still holds to the interface; one whose interface is gone is removed.
func adopt(path string, ifindex int) (link.Link, error) {
	l, err := link.LoadPinnedLink(path, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("adopt link %s: %w", path, err)
	}
	info, err := l.Info()
	if err != nil {
		return nil, fmt.Errorf("adopt link %s: %w", path, err)
	}
	if x := info.XDP(); x != nil && int(x.Ifindex) == ifindex {
		return l, nil
	}
	if err := l.Unpin(); err != nil {
		return nil, fmt.Errorf("remove dead link %s: %w", path, err)
	}
	return nil, l.Close()
}

func (h *hook) attach(i iface) error {
	if i.foreign != 0 {
		return fmt.Errorf("attach to interface %s: it has XDP program %d that is not ours; remove it first (bpftool prog show id %d; ip link set %s xdp off)",
			i.Name, i.foreign, i.foreign, i.Name)
	}
	l, err := link.AttachXDP(link.XDPOptions{Program: h.prog, Interface: i.index, Flags: link.XDPDriverMode})
	if err != nil {
		native := err
		l, err = link.AttachXDP(link.XDPOptions{Program: h.prog, Interface: i.index, Flags: link.XDPGenericMode})
		if err != nil {
			return fmt.Errorf("attach to interface %s: native: %w; generic: %w", i.Name, native, err)
		}
		h.log.Warn("XDP in generic mode, which is slow: the driver refused native mode", "interface", i.Name, "cause", native)
	}
	if err := l.Pin(h.path(i.index)); err != nil {
		return errors.Join(fmt.Errorf("pin the link of interface %s: %w", i.Name, err), l.Close())
	}
	h.links[i.index] = l
	return nil
}

// swap lets the program take over from another layout's, interface by interface, and removes what that left.
func (h *hook) swap() error {
	if !h.later {
		return nil
	}
	for ifindex, l := range h.links {
		there, err := h.update(l)
		if err != nil {
			return fmt.Errorf("swap the program on interface %d: %w", ifindex, err)
		}
		if !there {
			h.drop(ifindex)
			continue
		}
		if err := l.Pin(h.path(ifindex)); err != nil {
			return fmt.Errorf("move the link of interface %d: %w", ifindex, err)
		}
	}
	h.later = false
	return h.removeOthers()
}

func (h *hook) removeOthers() error {
	dirs, err := h.others()
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("remove old layout: %w", err)
		}
		h.log.Info("removed the maps of another layout", "path", dir)
	}
	return nil
}

// release detaches the links in dir of the interfaces that gone names.
func release(dir string, gone func(ifindex int) bool) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("look for links: %w", err)
	}
	for _, e := range entries {
		ifindex, err := strconv.Atoi(strings.TrimPrefix(e.Name(), linkPrefix))
		if err != nil || !strings.HasPrefix(e.Name(), linkPrefix) || !gone(ifindex) {
			continue
		}
		l, err := link.LoadPinnedLink(filepath.Join(dir, e.Name()), nil)
		if err != nil {
			return fmt.Errorf("detach %s: %w", e.Name(), err)
		}
		if err := errors.Join(l.Unpin(), l.Close()); err != nil {
			return fmt.Errorf("detach %s: %w", e.Name(), err)
		}
	}
	return nil
}

func (h *hook) close() {
	for _, l := range h.links {
		_ = l.Close() // a file descriptor of a pinned link: nothing can be lost
	}
}

// Uninstall detaches every program pinned below pinPath ("": DefaultPinPath) and removes all maps: forwarding ends.
// Nothing there is no error.
func Uninstall(pinPath string) error {
	root := Options{PinPath: pinPath}.withDefaults().PinPath
	entries, err := os.ReadDir(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("uninstall plane xdp: %w", err)
	}
	if is, err := isBPFFS(root); err != nil || !is {
		return fmt.Errorf("uninstall plane xdp: %s is not in a bpffs", root)
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		if err := release(filepath.Join(root, e.Name()), func(int) bool { return true }); err != nil {
			return fmt.Errorf("uninstall plane xdp: %w", err)
		}
	}
	if err := os.RemoveAll(root); err != nil {
		return fmt.Errorf("uninstall plane xdp: %w", err)
	}
	return nil
}

// modeOf says how the program on a link runs: native, generic or offload; "" if there is none.
func modeOf(x *netlink.LinkXdp) string {
	switch {
	case x == nil || !x.Attached:
		return ""
	case x.AttachMode == nl.XDP_ATTACHED_SKB:
		return "generic"
	case x.AttachMode == nl.XDP_ATTACHED_HW:
		return "offload"
	}
	return "native"
}
