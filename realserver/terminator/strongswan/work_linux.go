package strongswan

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"tunneldirector/realserver/terminator"
)

// Work is charon's process, and the ports of IKE on any address, where it listens; its TUN device if packets go through that
// and not through the kernel (kernel-libipsec).
func (d *Driver) Work(ctx context.Context) (terminator.Work, error) {
	pid, err := d.pid(ctx)
	if err != nil {
		return terminator.Work{}, fmt.Errorf("ask whose socket %s is: %w", d.o.Socket, err)
	}
	w := terminator.Work{Processes: []int{pid}}
	for _, any := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		w.Sockets = append(w.Sockets, netip.AddrPortFrom(any, 500), netip.AddrPortFrom(any, 4500))
	}
	err = d.call(ctx, "stats", nil, "", func(m message) error {
		return m.each(func(_ sections, key, value []byte) error {
			if string(key) == "plugins" && string(value) == "kernel-libipsec" {
				w.Devices = []string{"ipsec0"}
			}
			return nil
		})
	})
	return w, err
}

func (d *Driver) pid(ctx context.Context) (int, error) {
	k, err := d.dial(ctx)
	if err != nil {
		return 0, err
	}
	defer k.close()
	raw, err := k.c.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var failed error
	err = raw.Control(func(fd uintptr) { cred, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err == nil {
		err = failed
	}
	if err != nil {
		return 0, err
	}
	return int(cred.Pid), nil
}
