package software

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"

	"tunneldirector/integration/lab"
)

// raise waits for a device, sets it up, and gives it addresses.
func raise(ctx context.Context, ns *lab.Namespace, dev string, addrs ...netip.Prefix) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ns.Run(func() error {
			link, err := netlink.LinkByName(dev)
			if err != nil {
				return err
			}
			return netlink.LinkSetUp(link)
		})
		if err == nil {
			break
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for %s in %s: %w", dev, ns.Name, err)
		}
	}
	for _, a := range addrs {
		if err := ns.Hold(dev, a); err != nil {
			return err
		}
	}
	return nil
}
