package inject

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A kernel receives messages. There is one; tests on a kernel without IPVS have a socket in its place.
type kernel interface {
	daemons() ([]daemon, error)
	start(o Options) error
	stop() error
	Close()
}

// A Link is a cable to the IPVS of one network namespace. See the package's text.
type Link struct {
	o       Options
	kernel  kernel
	near    *netlink.Handle // of the namespace that the link is made in
	sender  int             // the socket at the far end
	witness *witness
	gauge   *gauge
	started bool   // the daemon
	size    int    // of the window, in messages
	marker  uint64 // number of the last one sent
	drops   uint64 // what the gauge showed last
	buffer  []byte
}

// Open makes the link in the network namespace of the calling thread, which is to be locked to its goroutine if that is not
// the process's own. A daemon and an interface of ours, of an earlier run, are replaced. The error wraps ErrForeign if there
// is a daemon of somebody else, and plane.ErrUnsupported if there is no IPVS.
func Open(o Options) (*Link, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	k, err := openControl()
	if err != nil {
		return nil, err
	}
	return open(o, k)
}

func open(o Options, k kernel) (l *Link, err error) {
	l = &Link{kernel: k, sender: -1, size: fullWindow}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.release())
			l = nil
		}
	}()
	if l.o, err = o.complete(); err != nil {
		return l, err
	}
	if l.near, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return l, fmt.Errorf("open netlink: %w", err)
	}
	if err := l.clear(); err != nil {
		return l, err
	}
	if l.sender, err = plug(l.near, l.o); err != nil {
		return l, err
	}
	if err := l.o.Seal(Interface); err != nil {
		return l, fmt.Errorf("seal %s: %w", Interface, err)
	}
	if err := l.listen(); err != nil {
		return l, err
	}
	// Nothing but a marker, to see that it comes through.
	_, err = l.window(nil)
	return l, err
}

// clear removes what an earlier run has left behind.
func (l *Link) clear() error {
	all, err := l.kernel.daemons()
	if err != nil {
		return err
	}
	if err := foreign(all); err != nil {
		return err
	}
	if len(all) > 0 {
		l.o.Logger.Info("replace the IPVS synchronisation daemon of an earlier run", "interface", Interface)
		if err := l.kernel.stop(); err != nil {
			return err
		}
	}
	return unplug(l.near)
}

// listen starts the daemon and what watches it.
func (l *Link) listen() error {
	near, err := l.near.LinkByName(Interface)
	if err != nil {
		return fmt.Errorf("look for %s: %w", Interface, err)
	}
	if l.witness, err = watch(near.Attrs().Index, l.o); err != nil {
		return fmt.Errorf("open a socket beside the daemon's on %s: %w", Interface, err)
	}
	if l.gauge, err = openGauge(l.o); err != nil {
		return fmt.Errorf("open the list of sockets: %w", err)
	}
	before, err := l.gauge.inodes()
	if err != nil {
		return fmt.Errorf("read the list of sockets: %w", err)
	}
	if err := l.kernel.start(l.o); err != nil {
		return err
	}
	l.started = true
	if err := l.gauge.find(before); err != nil {
		return fmt.Errorf("look for the socket of the kernel's daemon: %w", err)
	}
	return nil
}

// Close stops the daemon and removes the interface. The entries stay.
func (l *Link) Close() error { return l.release() }

func (l *Link) release() error {
	var errs []error
	if l.started {
		errs = append(errs, l.kernel.stop())
	}
	if l.gauge != nil {
		errs = append(errs, l.gauge.file.Close())
	}
	if l.witness != nil {
		errs = append(errs, l.witness.Close())
	}
	if l.sender >= 0 {
		errs = append(errs, unplug(l.near), unix.Close(l.sender))
	}
	if l.near != nil {
		l.near.Close()
	}
	l.kernel.Close()
	return errors.Join(errs...)
}
