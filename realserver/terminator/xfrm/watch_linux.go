package xfrm

import (
	"context"
	"errors"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Multicast groups of the kernel's IPsec (include/uapi/linux/xfrm.h), as bits.
const groups = 1<<(groupExpire-1) | 1<<(groupSA-1) | 1<<(groupPolicy-1)

const (
	groupExpire = 2
	groupSA     = 3
	groupPolicy = 4
)

// Watch sends to changed whenever SAs and policies come and go.
func (d *Driver) Watch(ctx context.Context, changed chan<- struct{}) error {
	var c *netlink.Conn
	err := d.o.Space.Do(func() (err error) {
		c, err = netlink.Dial(unix.NETLINK_XFRM, &netlink.Config{Groups: groups})
		return err
	})
	if err != nil {
		return fmt.Errorf("listen to the kernel's IPsec: %w", err)
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	for {
		select {
		case changed <- struct{}{}: // at first for what came before
		default:
		}
		// More than the socket could hold is a change, too.
		if _, err := c.Receive(); err != nil && !errors.Is(err, unix.ENOBUFS) {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("listen to the kernel's IPsec: %w", err)
		}
	}
}
