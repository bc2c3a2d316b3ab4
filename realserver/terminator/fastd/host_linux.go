package fastd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// listener is the process that listens at the other end of c; 0 if it is in a PID namespace that cannot be seen into.
func listener(c *net.UnixConn) (int, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var optErr error
	if err := raw.Control(func(fd uintptr) { cred, optErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return 0, err
	}
	if optErr != nil {
		return 0, os.NewSyscallError("getsockopt SO_PEERCRED", optErr)
	}
	return int(cred.Pid), nil
}

// hangUp sends SIGHUP.
func hangUp(pid int) error {
	if err := unix.Kill(pid, unix.SIGHUP); err != nil {
		return fmt.Errorf("send SIGHUP to process %d: %w", pid, err)
	}
	return nil
}

// nudge sends a packet of data from a site's address to the VIP, which is this host's: it does not leave the host.
func nudge(site, vip netip.AddrPort) error {
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var optErr error
		err := raw.Control(func(fd uintptr) { optErr = disguise(int(fd), site.Addr()) })
		return errors.Join(err, optErr)
	}}
	c, err := lc.ListenPacket(context.Background(), "udp", site.String())
	if err != nil {
		return err
	}
	defer c.Close()
	// Type 2 is data in all versions of fastd; it is not decrypted where there is no tunnel.
	_, err = c.(*net.UDPConn).WriteToUDPAddrPort(append([]byte{2}, make([]byte, 31)...), vip)
	return err
}

// disguise lets a socket send from an address that is not this host's, and to this host only.
func disguise(fd int, as netip.Addr) error {
	level, option := unix.SOL_IP, unix.IP_TRANSPARENT
	if as.Is6() {
		level, option = unix.SOL_IPV6, unix.IPV6_TRANSPARENT
	}
	if err := unix.SetsockoptInt(fd, level, option, 1); err != nil {
		return os.NewSyscallError("setsockopt transparent", err)
	}
	return os.NewSyscallError("setsockopt SO_BINDTODEVICE", unix.BindToDevice(fd, "lo"))
}
