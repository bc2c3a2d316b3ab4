package load

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tunneldirector/realserver/terminator"
)

// Raise gives a terminator's sockets and TUN devices the room that is wanted. It says what it did; what the kernel does not let it do
// is an error for each, and the rest is done. It is idempotent, and called again where a terminator was restarted: new sockets have the
// host's default.
//
// It takes CAP_NET_ADMIN, and to reach into the terminator's processes CAP_SYS_PTRACE (or to be their user) and Linux 5.6.
func (r *Room) Raise(ctx context.Context, work terminator.Work, want Want) (did []string, err error) {
	err = r.Space.Do(func() error {
		sockets, errs := r.raiseSockets(ctx, work, want.ReceiveBuffer)
		devices, more := r.raiseDevices(ctx, work.Devices, want.Queue)
		did = append(sockets, devices...)
		return errors.Join(errs, more)
	})
	return did, err
}

// Lower puts back what was, where it still is as Raise left it. It forgets what is gone or was changed by somebody else since, and
// says so; what fails stays remembered.
func (r *Room) Lower(ctx context.Context, work terminator.Work) (did []string, err error) {
	err = r.Space.Do(func() error {
		sockets, errs := r.lowerSockets(ctx, work)
		devices, more := r.lowerDevices(ctx)
		did = append(sockets, devices...)
		return errors.Join(errs, more)
	})
	return did, err
}

func (r *Room) raiseSockets(ctx context.Context, work terminator.Work, bytes int) (did []string, err error) {
	if bytes <= 0 || len(work.Sockets) == 0 {
		return nil, nil
	}
	all, err := readSockets(ctx, work.Sockets)
	if err != nil {
		return nil, err
	}
	r.forgetSockets(all, work.Sockets)
	holders, err := findHolders(work.Processes)
	errs := []error{err}
	done := map[uint64]bool{}
	for _, at := range work.Sockets {
		for _, s := range receivers(all, at) {
			if done[s.cookie] || int(s.buffer) >= 2*bytes {
				continue
			}
			done[s.cookie] = true
			r.remember(s, 2*bytes) // as the kernel books it
			if err := r.keep(); err != nil {
				return did, errors.Join(append(errs, fmt.Errorf("raise receive buffer of socket %s: %w", s.local, err))...)
			}
			is, err := setBuffer(holders, s, bytes)
			if err != nil {
				errs = append(errs, fmt.Errorf("raise receive buffer of socket %s: %w", s.local, err))
			}
			r.remember(s, max(is, int(s.buffer)))
			if is > int(s.buffer) {
				did = append(did, fmt.Sprintf("receive buffer of socket %s: %d bytes, was %d", s.local, is, s.buffer))
			}
		}
	}
	return did, errors.Join(errs...)
}

// forgetSockets forgets what is not there any more, as far as all at some ports were looked for.
func (r *Room) forgetSockets(all []socket, at []netip.AddrPort) {
	r.Sockets = slices.DeleteFunc(r.Sockets, func(s RaisedSocket) bool {
		asked := slices.ContainsFunc(at, func(a netip.AddrPort) bool { return a.Port() == s.Local.Port() })
		return asked && !slices.ContainsFunc(all, s.is)
	})
}

// is tells whether a socket is the one that was raised. The kernel counts cookies from 1 at each start of the host, and what was
// raised is remembered for longer.
func (s RaisedSocket) is(now socket) bool { return now.cookie == s.Cookie && now.local == s.Local }

// remember keeps what a socket had first, and what it is made. One that has what it had first is forgotten.
func (r *Room) remember(s socket, is int) {
	i := slices.IndexFunc(r.Sockets, func(o RaisedSocket) bool { return o.is(s) })
	if i < 0 {
		i = len(r.Sockets)
		r.Sockets = append(r.Sockets, RaisedSocket{Cookie: s.cookie, Local: s.local, Was: int(s.buffer)})
	}
	r.Sockets[i].From, r.Sockets[i].Is = int(s.buffer), is
	if is == r.Sockets[i].Was {
		r.Sockets = slices.Delete(r.Sockets, i, i+1)
	}
}

func (r *Room) lowerSockets(ctx context.Context, work terminator.Work) (did []string, err error) {
	if len(r.Sockets) == 0 {
		return nil, nil
	}
	var at []netip.AddrPort
	for _, s := range r.Sockets {
		at = append(at, s.Local)
	}
	all, err := readSockets(ctx, at)
	if err != nil {
		return nil, err
	}
	r.forgetSockets(all, at)
	holders, err := findHolders(work.Processes)
	errs := []error{err}
	r.Sockets = slices.DeleteFunc(r.Sockets, func(s RaisedSocket) bool {
		now := all[slices.IndexFunc(all, s.is)]
		if int(now.buffer) == s.Was { // it was about to be raised
			return true
		}
		if b := int(now.buffer); b != s.Is && b != s.From {
			did = append(did, fmt.Sprintf("receive buffer of socket %s: %d bytes, which is not what it was raised to (%d): left", s.Local, now.buffer, s.Is))
			return true
		}
		if _, err := setBuffer(holders, now, s.Was/2); err != nil {
			errs = append(errs, fmt.Errorf("lower receive buffer of socket %s: %w", s.Local, err))
			return false
		}
		did = append(did, fmt.Sprintf("receive buffer of socket %s: %d bytes again", s.Local, s.Was))
		return true
	})
	return did, errors.Join(errs...)
}

func (r *Room) raiseDevices(ctx context.Context, names []string, packets int) (did []string, err error) {
	if packets <= 0 {
		return nil, nil
	}
	var errs []error
	for _, name := range names {
		if ctx.Err() != nil {
			return did, errors.Join(append(errs, ctx.Err())...)
		}
		l, err := netlink.LinkByName(name)
		if err != nil {
			errs = append(errs, fmt.Errorf("make queue of device %s longer: %w", name, err))
			continue
		}
		if !isTUN(l) {
			errs = append(errs, fmt.Errorf("make queue of device %s longer: it is a %s device, whose queue is not txqueuelen's", name, l.Type()))
			continue
		}
		was, index := l.Attrs().TxQLen, l.Attrs().Index
		if was >= packets {
			continue
		}
		r.rememberDevice(RaisedDevice{Name: name, Index: index, Was: was, From: was, Is: packets})
		if err := r.keep(); err != nil {
			return did, errors.Join(append(errs, fmt.Errorf("make queue of device %s longer: %w", name, err))...)
		}
		if err := netlink.LinkSetTxQLen(l, packets); err != nil {
			r.rememberDevice(RaisedDevice{Name: name, Index: index, Was: was, From: was, Is: was})
			errs = append(errs, fmt.Errorf("make queue of device %s longer: %w", name, err))
			continue
		}
		did = append(did, fmt.Sprintf("queue of device %s: %d packets, was %d", name, packets, was))
	}
	return did, errors.Join(errs...)
}

// rememberDevice is remember for a device.
func (r *Room) rememberDevice(d RaisedDevice) {
	i := slices.IndexFunc(r.Devices, func(o RaisedDevice) bool { return o.Name == d.Name })
	switch {
	case i < 0:
		i = len(r.Devices)
		r.Devices = append(r.Devices, d)
	case r.Devices[i].Index == d.Index:
		r.Devices[i].From, r.Devices[i].Is = d.From, d.Is
	default:
		r.Devices[i] = d
	}
	if r.Devices[i].Is == r.Devices[i].Was {
		r.Devices = slices.Delete(r.Devices, i, i+1)
	}
}

func (r *Room) lowerDevices(ctx context.Context) (did []string, err error) {
	var errs []error
	r.Devices = slices.DeleteFunc(r.Devices, func(d RaisedDevice) bool {
		if ctx.Err() != nil {
			return false
		}
		l, err := netlink.LinkByName(d.Name)
		if errors.As(err, new(netlink.LinkNotFoundError)) || err == nil && l.Attrs().Index != d.Index {
			return true
		}
		if err == nil && l.Attrs().TxQLen == d.Was {
			return true
		}
		if err == nil && l.Attrs().TxQLen != d.Is && l.Attrs().TxQLen != d.From {
			did = append(did, fmt.Sprintf("queue of device %s: %d packets, which is not what it was made (%d): left", d.Name, l.Attrs().TxQLen, d.Is))
			return true
		}
		if err == nil {
			err = netlink.LinkSetTxQLen(l, d.Was)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("make queue of device %s shorter: %w", d.Name, err))
			return false
		}
		did = append(did, fmt.Sprintf("queue of device %s: %d packets again", d.Name, d.Was))
		return true
	})
	return did, errors.Join(append(errs, ctx.Err())...)
}

// isTUN tells whether a device's queue is read by a process.
func isTUN(l netlink.Link) bool { return l.Type() == (&netlink.Tuntap{}).Type() || l.Type() == "tun" }

// setBuffer asks for a receive buffer of a socket that another process holds, and returns what it is then, as the kernel books it.
func setBuffer(holders map[uint32]holder, s socket, bytes int) (is int, err error) {
	h, ok := holders[s.inode]
	if !ok {
		return 0, errKernels
	}
	err = h.with(s.inode, func(fd int) error {
		err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, bytes)
		if errors.Is(err, unix.EPERM) { // without CAP_NET_ADMIN, as far as net.core.rmem_max
			err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, bytes)
		}
		var got error
		is, got = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
		if err = errors.Join(err, got); err == nil && is < 2*bytes {
			err = fmt.Errorf("%d bytes is what net.core.rmem_max allows without CAP_NET_ADMIN; %d were wanted", is/2, bytes)
		}
		return err
	})
	return is, err
}
