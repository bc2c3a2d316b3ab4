package vip

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/mdlayher/packet"
)

// announce sends one frame per address out of an interface. One without Ethernet addresses has nobody to tell.
func announce(ifname string, addrs []netip.Addr) error {
	ifi, err := net.InterfaceByName(ifname)
	if err != nil {
		return err
	}
	if len(ifi.HardwareAddr) != 6 || ifi.Flags&net.FlagLoopback != 0 {
		return nil
	}
	// Protocol 0 receives nothing.
	conn, err := packet.Listen(ifi, packet.Raw, 0, nil)
	if err != nil {
		return err
	}
	var errs []error
	for _, a := range addrs {
		b, err := frame(a, ifi.HardwareAddr)
		if err == nil {
			_, err = conn.WriteTo(b, &packet.Addr{HardwareAddr: net.HardwareAddr(b[:6])})
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("address %v: %w", a, err))
		}
	}
	return errors.Join(append(errs, conn.Close())...)
}
