package route

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"tunneldirector/director/plane"
)

// Tables are what of a network namespace's routing is ours.
type Tables struct {
	ns    netns.NsHandle
	links *netlink.Handle
	conn  *conn // for changes

	hops    map[hop]seat         // members that there are or were
	nextHop uint32               // id
	mu      sync.Mutex           // guards foreign
	foreign map[uint32][]Foreign // by table; absent: not read
}

// Open opens the routing of the calling thread's network namespace, and changes nothing in it.
func Open() (*Tables, error) {
	t := &Tables{ns: -1, hops: map[hop]seat{}, nextHop: firstHop, foreign: map[uint32][]Foreign{}}
	if err := t.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("open routing tables: %w", err), t.Close())
	}
	return t, nil
}

func (t *Tables) open() (err error) {
	if t.ns, err = netns.Get(); err != nil {
		return err
	}
	if t.links, err = netlink.NewHandleAt(t.ns, unix.NETLINK_ROUTE); err != nil {
		return err
	}
	if t.conn, err = dial(int(t.ns), 0); err != nil {
		return err
	}
	if err := t.readHops(); errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("%w: the kernel has no nexthop objects (Linux 5.13 and later)", plane.ErrUnsupported)
	} else if err != nil {
		return err
	}
	return nil
}

// Close lets go. What is in the kernel stays there.
func (t *Tables) Close() error {
	var errs []error
	if t.conn != nil {
		errs = append(errs, t.conn.close())
	}
	if t.links != nil {
		t.links.Close()
	}
	if t.ns >= 0 {
		errs = append(errs, t.ns.Close())
	}
	return errors.Join(errs...)
}

// read dumps by a socket of its own, so that whoever reads may call other methods meanwhile.
func (t *Tables) read(request []byte, f func(kind uint16, body []byte) bool) error {
	c, err := dial(int(t.ns), 0)
	if err != nil {
		return err
	}
	return errors.Join(c.dump(request, f), c.close())
}

// refusals collects what went wrong in a batch: the first few by name, the rest by number.
type refusals struct {
	errs []error
	more int
}

func (r *refusals) add(act string, object fmt.Stringer, err error) {
	if errors.Is(err, unix.EPERM) {
		err = fmt.Errorf("%w; the process needs CAP_NET_ADMIN", err)
	}
	if len(r.errs) == 5 {
		r.more++
		return
	}
	r.errs = append(r.errs, fmt.Errorf("%s %v: %w", act, object, err))
}

func (r *refusals) err() error {
	if r.more > 0 {
		return errors.Join(append(r.errs, fmt.Errorf("and %d more", r.more))...)
	}
	return errors.Join(r.errs...)
}

// ifIndex is an interface's; a missing one is os.ErrNotExist.
func (t *Tables) ifIndex(name string) (int, error) {
	l, err := t.links.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return 0, fmt.Errorf("interface %s: %w", name, os.ErrNotExist)
	}
	if err != nil {
		return 0, fmt.Errorf("interface %s: %w", name, err)
	}
	return l.Attrs().Index, nil
}
