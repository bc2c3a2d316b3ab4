package wireguard

import (
	"errors"
	"fmt"
	"os"

	"github.com/vishvananda/netlink"
)

// kernelDevice tells whether the kernel runs the device. wgctrl would look for a socket of that name otherwise, and might
// wait there forever.
func kernelDevice(name string) error {
	h, err := netlink.NewHandle()
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	defer h.Close()
	link, err := h.LinkByName(name)
	switch {
	case errors.As(err, new(netlink.LinkNotFoundError)):
		return fmt.Errorf("%w: %w", err, os.ErrNotExist)
	case err != nil:
		return err
	case link.Type() != "wireguard":
		return fmt.Errorf("link %s is a %s, not the kernel's WireGuard: %w", name, link.Type(), os.ErrNotExist)
	}
	return nil
}
