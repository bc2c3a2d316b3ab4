package inject

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// mtu lets the longest message, 255 entries of IPv6, through in one piece.
const mtu = 20 + 8 + maxMessage

// maxMessage is the longest message.
const maxMessage = headerSize + maxConns*connSize6

// plug makes the veth pair, both ends up, and the sender's socket at the far end. That socket alone holds the far
// end's network namespace, so that both go with it: with the process at the latest.
func plug(near *netlink.Handle, o Options) (sender int, err error) {
	home, err := netns.Get()
	if err != nil {
		return -1, fmt.Errorf("open the network namespace: %w", err)
	}
	defer home.Close()
	type result struct {
		socket int
		err    error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends in the far end's namespace, with this goroutine
		var r result
		r.socket, r.err = farEnd(home, near, o)
		done <- r
	}()
	r := <-done
	if r.err != nil {
		return -1, fmt.Errorf("make %s: %w", Interface, r.err)
	}
	return r.socket, nil
}

// farEnd moves the thread into a new network namespace.
func farEnd(home netns.NsHandle, near *netlink.Handle, o Options) (socket int, err error) {
	far, err := netns.New()
	if err != nil {
		return -1, err
	}
	defer far.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = "far", mtu
	pair := &netlink.Veth{LinkAttrs: attrs, PeerName: Interface, PeerNamespace: netlink.NsFd(home), PeerMTU: mtu}
	if err := netlink.LinkAdd(pair); err != nil {
		return -1, err
	}
	if err := netlink.LinkSetUp(pair); err != nil {
		return -1, err
	}
	if err := raise(near); err != nil {
		return -1, err
	}
	return senderSocket(pair.Index, o)
}

// raise sets the near end up. It needs no address, and gets none.
func raise(h *netlink.Handle) error {
	link, err := h.LinkByName(Interface)
	if err != nil {
		return err
	}
	// 1 is IN6_ADDR_GEN_MODE_NONE. A kernel without IPv6 has no such thing.
	if err := h.LinkSetIP6AddrGenMode(link, 1); err != nil && !errors.Is(err, unix.EAFNOSUPPORT) && !errors.Is(err, unix.EOPNOTSUPP) {
		return err
	}
	return h.LinkSetUp(link)
}

// senderSocket is a socket of UDP whose datagrams go to the group by an interface without an address: from 0.0.0.0, which
// is a right source for groups of 224.0.0.0/24 alone (ip_route_output_key_hash_rcu, ip_mc_validate_source), and
// which no reverse-path filter looks at.
func senderSocket(index int, o Options) (int, error) {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	err = errors.Join(
		unix.SetsockoptIPMreqn(s, unix.IPPROTO_IP, unix.IP_MULTICAST_IF, &unix.IPMreqn{Ifindex: int32(index)}),
		unix.SetsockoptInt(s, unix.IPPROTO_IP, unix.IP_MULTICAST_LOOP, 0),
		unix.SetsockoptInt(s, unix.SOL_SOCKET, unix.SO_NO_CHECK, 1), // the cable is memory
		unix.SetsockoptInt(s, unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, index),
	)
	if err == nil {
		err = unix.Connect(s, &unix.SockaddrInet4{Port: int(o.Port), Addr: o.Group.As4()})
	}
	if err != nil {
		return -1, errors.Join(fmt.Errorf("open the socket at the far end, for %v port %d: %w", o.Group, o.Port, err), unix.Close(s))
	}
	return s, nil
}

// unplug removes the near end of an earlier run, or of this one, if it is there.
func unplug(near *netlink.Handle) error {
	link, err := near.LinkByName(Interface)
	var gone netlink.LinkNotFoundError
	switch {
	case errors.As(err, &gone):
		return nil
	case err != nil:
		return fmt.Errorf("look for %s: %w", Interface, err)
	case link.Type() != "veth":
		return fmt.Errorf("interface %s is there and not ours: it is of type %s, not veth", Interface, link.Type())
	}
	if err := near.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("remove %s: %w", Interface, err)
	}
	return nil
}
