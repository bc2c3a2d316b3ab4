package wireguard

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"tunneldirector/realserver/space"
	"tunneldirector/realserver/terminator"
)

// atOnce is how many allowed addresses go into one message. wgctrl splits what has more, and then forgets that the peer was
// removed in between: its key and endpoint would be lost.
const atOnce = 250

// nudge is a keepalive interval that is set for a moment: the change from none to some makes WireGuard send one at once,
// and for that a handshake.
const nudge = 25 * time.Second

// kernel is a device of the kernel's. The kernel answers or fails; it does not hang.
type kernel struct {
	name string
	in   space.Space
}

// client runs f with a client in the device's namespace.
func (k kernel) client(ctx context.Context, f func(*wgctrl.Client) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	err := k.in.Do(func() error {
		if err := kernelDevice(k.name); err != nil {
			return err
		}
		c, err := wgctrl.New()
		if err != nil {
			return fmt.Errorf("open netlink: %w", err)
		}
		return errors.Join(f(c), c.Close())
	})
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: %w", err, terminator.ErrGone)
	}
	return err
}

func (k kernel) each(ctx context.Context, f func(*peer)) (device, error) {
	var d device
	err := k.client(ctx, func(c *wgctrl.Client) error {
		dev, err := c.Device(k.name)
		if err != nil {
			return err
		}
		d = device{port: uint16(dev.ListenPort), mark: uint32(dev.FirewallMark)}
		for i := range dev.Peers {
			p := fromKernel(&dev.Peers[i])
			f(&p)
		}
		return nil
	})
	return d, err
}

func (k kernel) anew(ctx context.Context, p peer, begin bool) error {
	return k.client(ctx, func(c *wgctrl.Client) error {
		for _, change := range changes(p, begin) {
			if err := c.ConfigureDevice(k.name, wgtypes.Config{Peers: change}); err != nil {
				return err
			}
		}
		return nil
	})
}

func (kernel) processes(context.Context) ([]int, error) { return nil, nil }

// changes are the messages that make a peer anew. The first holds all but addresses beyond those that fit.
func changes(p peer, begin bool) [][]wgtypes.PeerConfig {
	allowed := make([]net.IPNet, len(p.allowed))
	for i, a := range p.allowed {
		allowed[i] = net.IPNet{IP: a.Addr().AsSlice(), Mask: net.CIDRMask(a.Bits(), a.Addr().BitLen())}
	}
	first := min(len(allowed), atOnce)
	keepalive := p.keepalive
	if begin && keepalive == 0 {
		keepalive = nudge
	}
	again := wgtypes.PeerConfig{PublicKey: p.key, PersistentKeepaliveInterval: &keepalive, ReplaceAllowedIPs: true, AllowedIPs: allowed[:first]}
	if p.shared != (wgtypes.Key{}) {
		again.PresharedKey = &p.shared
	}
	if p.endpoint.IsValid() {
		again.Endpoint = net.UDPAddrFromAddrPort(p.endpoint)
	}
	out := [][]wgtypes.PeerConfig{{{PublicKey: p.key, Remove: true}, again}}
	if keepalive != p.keepalive {
		out[0] = append(out[0], wgtypes.PeerConfig{PublicKey: p.key, UpdateOnly: true, PersistentKeepaliveInterval: &p.keepalive})
	}
	for from := first; from < len(allowed); from += atOnce {
		to := min(from+atOnce, len(allowed))
		out = append(out, []wgtypes.PeerConfig{{PublicKey: p.key, UpdateOnly: true, AllowedIPs: allowed[from:to]}})
	}
	return out
}

func fromKernel(from *wgtypes.Peer) peer {
	p := peer{
		key: from.PublicKey, shared: from.PresharedKey, keepalive: from.PersistentKeepaliveInterval,
		rx: uint64(from.ReceiveBytes), tx: uint64(from.TransmitBytes),
	}
	if t := from.LastHandshakeTime; !t.IsZero() && t.Unix() > 0 {
		p.handshake = t
	}
	if from.Endpoint != nil {
		at := from.Endpoint.AddrPort()
		p.endpoint = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
	}
	for _, n := range from.AllowedIPs {
		if a, ok := netip.AddrFromSlice(n.IP); ok {
			bits, _ := n.Mask.Size()
			p.allowed = append(p.allowed, netip.PrefixFrom(a.Unmap(), bits))
		}
	}
	return p
}
