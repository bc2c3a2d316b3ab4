package wireguard

import (
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// listener is the process that listens at the other end of c; none if it is in a PID namespace that cannot be seen into.
func listener(c *net.UnixConn) ([]int, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	var cred *unix.Ucred
	var optErr error
	if err := raw.Control(func(fd uintptr) { cred, optErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return nil, err
	}
	if optErr != nil {
		return nil, os.NewSyscallError("getsockopt SO_PEERCRED", optErr)
	}
	if cred.Pid == 0 {
		return nil, nil
	}
	return []int{int(cred.Pid)}, nil
}
