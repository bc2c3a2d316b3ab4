package xdp

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"tunneldirector/director/plane"
)

// Flags of ETHTOOL_GFLAGS and ETHTOOL_SFLAGS, include/uapi/linux/ethtool.h.
const (
	ethtoolGFlags = 0x25
	ethtoolSFlags = 0x26
	flagRxVLAN    = 1 << 8
	flagLRO       = 1 << 15
)

type ethtoolValue struct{ cmd, data uint32 }

type ethtoolRequest struct {
	name [unix.IFNAMSIZ]byte
	data *ethtoolValue
	_    [16]byte
}

// checkOffloads refuses what hides from the program the packets that came by the wire; fix turns it off.
func checkOffloads(i plane.Interface, fix bool) error {
	flags, err := ethtool(i.Name, ethtoolValue{cmd: ethtoolGFlags})
	if err != nil {
		return fmt.Errorf("ask interface %s for its offloads: %w", i.Name, err)
	}
	bad, option, why := uint32(0), "", ""
	if flags&flagLRO != 0 {
		bad, option, why = flagLRO, "lro", "joins packets into larger ones"
	}
	if flags&flagRxVLAN != 0 && len(i.VLANs) > 0 {
		bad, option, why = bad|flagRxVLAN, join(option, "rxvlan"), join(why, "takes the tags off by which tenants are told")
	}
	if bad == 0 {
		return nil
	}
	if !fix {
		return fmt.Errorf("use interface %s: it %s before the program sees them; turn that off: ethtool -K %s %s off: %w",
			i.Name, why, i.Name, option, plane.ErrUnsupported)
	}
	if _, err := ethtool(i.Name, ethtoolValue{cmd: ethtoolSFlags, data: flags &^ bad}); err != nil {
		return fmt.Errorf("turn off %s of interface %s: %w", option, i.Name, err)
	}
	return nil
}

func join(a, b string) string {
	if a == "" {
		return b
	}
	if b == "rxvlan" {
		return a + " off " + b
	}
	return a + " and " + b
}

func ethtool(name string, v ethtoolValue) (uint32, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	r := ethtoolRequest{data: &v}
	copy(r.name[:unix.IFNAMSIZ-1], name)
	var pin runtime.Pinner
	pin.Pin(&v)
	defer pin.Unpin()
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&r)))
	if errno == unix.EOPNOTSUPP && v.cmd == ethtoolGFlags {
		return 0, nil // no offloads to speak of
	}
	if errno != 0 {
		return 0, errno
	}
	return v.data, nil
}
