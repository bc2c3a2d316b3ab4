package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// A Namespace is one machine of the lab: a network namespace under its name in /run/netns.
type Namespace struct {
	Name   string
	handle netns.NsHandle
	nl     *netlink.Handle
	dir    string // what a process in it sees as /run and /sys/fs/bpf is below this
}

// calm is what every namespace needs: no reverse-path filter, no redirects, IPv6 addresses usable at once.
var calm = map[string]string{
	"ipv4/conf/all/rp_filter": "0", "ipv4/conf/default/rp_filter": "0",
	"ipv4/conf/all/send_redirects": "0", "ipv4/conf/default/send_redirects": "0",
	"ipv4/conf/all/accept_redirects": "0", "ipv4/conf/default/accept_redirects": "0",
	"ipv6/conf/all/accept_dad": "0", "ipv6/conf/default/accept_dad": "0",
	"ipv6/conf/all/accept_ra": "0", "ipv6/conf/default/accept_ra": "0",
	"ipv6/conf/all/accept_redirects": "0", "ipv6/conf/default/accept_redirects": "0",
}

// forwarding turns a namespace into a router.
var forwarding = map[string]string{
	"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1",
}

// newNamespace makes a namespace with lo up.
func newNamespace(name, dir string) (_ *Namespace, err error) {
	n := &Namespace{Name: name, dir: dir}
	if n.handle, err = createNamed(name); err != nil {
		return nil, fmt.Errorf("create network namespace %s: %w", name, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.remove())
		}
	}()
	if n.nl, err = netlink.NewHandleAt(n.handle); err != nil {
		return nil, fmt.Errorf("open netlink in %s: %w", name, err)
	}
	if err = n.Sysctl(calm); err != nil {
		return nil, err
	}
	return n, n.up("lo")
}

func createNamed(name string) (netns.NsHandle, error) {
	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return -1, err
	}
	defer home.Close()
	h, err := netns.NewNamed(name)
	if back := netns.Set(home); back != nil {
		return -1, errors.Join(err, back) // the thread stays locked: nobody else may get it
	}
	runtime.UnlockOSThread()
	return h, err
}

// Run calls f on a thread that is in the namespace: sockets that f opens belong there, for good. Goroutines that f
// starts are not in it.
func (n *Namespace) Run(f func() error) (err error) {
	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter network namespace %s: %w", n.Name, err)
	}
	defer home.Close()
	if err := netns.Set(n.handle); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter network namespace %s: %w", n.Name, err)
	}
	defer func() {
		if back := netns.Set(home); back != nil {
			err = errors.Join(err, fmt.Errorf("leave network namespace %s: %w", n.Name, back))
			return // the thread stays locked
		}
		runtime.UnlockOSThread()
	}()
	return f()
}

// Sysctl writes values below /proc/sys/net.
func (n *Namespace) Sysctl(values map[string]string) error {
	return n.Run(func() error {
		for key, value := range values {
			if err := os.WriteFile(filepath.Join("/proc/sys/net", key), []byte(value), 0o644); err != nil {
				return fmt.Errorf("set net/%s to %s in %s: %w", key, value, n.Name, err)
			}
		}
		return nil
	})
}

func (n *Namespace) up(name string) error {
	link, err := n.nl.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find %s in %s: %w", name, n.Name, err)
	}
	if err := n.nl.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %s in %s up: %w", name, n.Name, err)
	}
	return nil
}

// remove lets go of the namespace; the kernel frees it when no process or socket is left in it.
func (n *Namespace) remove() error {
	if n.nl != nil {
		n.nl.Close()
	}
	err := netns.DeleteNamed(n.Name)
	if err != nil {
		err = fmt.Errorf("delete network namespace %s: %w", n.Name, err)
	}
	return errors.Join(err, n.handle.Close())
}
