package guest

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.zx2c4.com/wireguard/wgctrl"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

const wireguardPort = 51820

// The kernel's WireGuard: the real servers share one key and know every site; the sites call.
var wireguard = kind{"wireguard", []string{fmt.Sprintf("udp/%d", wireguardPort)}, func(e end) error { return e.wireguard(wireguardPort, wireguardPort) }}

// keyOf makes keys that all machines of the lab agree on: 0 is the real servers'.
func keyOf(number int) wgtypes.Key {
	k, err := wgtypes.NewKey(bytes.Repeat([]byte{byte(0x40 + number)}, wgtypes.KeyLen))
	if err != nil {
		panic(err) // it has the right length
	}
	return k
}

// wireguard makes a device, one for all sites at a real server. Port is its own, dial the one at the VIP.
func (e end) wireguard(port int, dial uint16) error {
	name, own, peer := "wg0", keyOf(0), wgtypes.PeerConfig{PublicKey: keyOf(e.number).PublicKey()}
	if !e.server {
		name, own, peer.PublicKey = e.device("wg"), keyOf(e.number), keyOf(0).PublicKey()
		peer.Endpoint = net.UDPAddrFromAddrPort(netip.AddrPortFrom(e.remote, dial))
	}
	peer.AllowedIPs = []net.IPNet{*ipNet(e.far)}
	_, err := netlink.LinkByName(name)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		err = netlink.LinkAdd(&netlink.Wireguard{LinkAttrs: netlink.LinkAttrs{Name: name}})
	}
	if err != nil {
		return fmt.Errorf("add %s: %w", name, err)
	}
	c, err := wgctrl.New()
	if err != nil {
		return fmt.Errorf("talk to WireGuard: %w", err)
	}
	defer c.Close()
	// The key again would make it forget handshakes, but nobody has spoken yet.
	if err := c.ConfigureDevice(name, wgtypes.Config{PrivateKey: &own, ListenPort: &port, Peers: []wgtypes.PeerConfig{peer}}); err != nil {
		return fmt.Errorf("configure %s: %w", name, err)
	}
	return e.raise(name, false)
}
