package terminators

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/wgctrl"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"tunneldirector/integration/lab"
	"tunneldirector/realserver/space"
	"tunneldirector/realserver/terminator"
	"tunneldirector/realserver/terminator/wireguard"
)

// kernelDevice makes a device wg0 of the kernel's.
func (r *rig) kernelDevice(ns *lab.Namespace, c wgtypes.Config) {
	r.Helper()
	err := ns.Run(func() error {
		return netlink.LinkAdd(&netlink.Wireguard{LinkAttrs: netlink.LinkAttrs{Name: "wg0"}})
	})
	if errors.Is(err, unix.EOPNOTSUPP) && os.Getenv("TUNNELDIRECTOR_VM") == "" {
		r.Skip("this kernel has no module wireguard: it is tested in the virtual machine")
	}
	r.must("add a WireGuard device", err)
	r.up(ns, "wg0")
	r.configure(ns, c)
}

func (r *rig) configure(ns *lab.Namespace, c wgtypes.Config) {
	r.Helper()
	r.must("configure WireGuard", ns.Run(func() error {
		w, err := wgctrl.New()
		if err != nil {
			return err
		}
		return errors.Join(w.ConfigureDevice("wg0", c), w.Close())
	}))
}

func (r *rig) kernelKey() wgtypes.Key {
	r.Helper()
	k, err := wgtypes.GeneratePrivateKey()
	r.must("make a key", err)
	return k
}

func ipNet(p netip.Prefix) net.IPNet {
	return net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// kernelSite starts a site's, and returns what real servers are to know of it.
func (r *rig) kernelSite(s *lab.Site, service, shared wgtypes.Key) wgtypes.PeerConfig {
	r.Helper()
	k, often := r.kernelKey(), 25*time.Second
	r.kernelDevice(s.NS, wgtypes.Config{PrivateKey: &k, Peers: []wgtypes.PeerConfig{{
		PublicKey: service, PresharedKey: &shared, Endpoint: net.UDPAddrFromAddrPort(netip.AddrPortFrom(s.VIP, lab.WireGuardPort)),
		PersistentKeepaliveInterval: &often, AllowedIPs: []net.IPNet{ipNet(r.inner())},
	}}})
	r.must("route", s.NS.Route(r.inner(), netip.Addr{}, "wg0"))
	p := wgtypes.PeerConfig{PublicKey: k.PublicKey(), PresharedKey: &shared}
	for _, subnet := range s.Subnets {
		p.AllowedIPs = append(p.AllowedIPs, ipNet(subnet))
	}
	return p
}

// TestWireGuardKernel: the same with the kernel's WireGuard, and a peer with more subnets than fit into one message.
func TestWireGuardKernel(t *testing.T) {
	r := newRig(t, lab.Options{Sites: 2, IPv6: true})
	service, shared, port := r.kernelKey(), r.kernelKey(), lab.WireGuardPort
	servers := wgtypes.Config{PrivateKey: &service, ListenPort: &port}
	many := 600
	for _, s := range r.Sites {
		r.pin(s, 0)
		servers.Peers = append(servers.Peers, r.kernelSite(s, service.PublicKey(), shared))
	}
	var drivers []*wireguard.Terminator
	for _, rs := range r.RealServers {
		r.sourced(rs)
		r.kernelDevice(rs.NS, servers)
		for i := range many { // in bites: what is configured at once, and has more, loses its keys in wgctrl
			one := wgtypes.PeerConfig{PublicKey: servers.Peers[1].PublicKey, UpdateOnly: true, AllowedIPs: []net.IPNet{ipNet(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 9, byte(i >> 8), byte(i)}), 32))}}
			r.configure(rs.NS, wgtypes.Config{Peers: []wgtypes.PeerConfig{one}})
		}
		for _, cover := range lab.Covers {
			r.must("route", rs.NS.Route(cover, netip.Addr{}, "wg0"))
		}
		drivers = append(drivers, wireguard.New(wireguard.Options{Device: "wg0", Space: space.Space(rs.NS.Name), VIPs: r.VIPs}))
	}
	for i, s := range r.Sites {
		before := r.tunnelOf(drivers[0], s, 30*time.Second)
		time.Sleep(flood)
		begin := time.Now()
		r.pin(s, 1)
		r.must("adopt", drivers[1].Adopt(t.Context(), inherited(s, before)))
		measured(t, fmt.Sprintf("kernel WireGuard, IPv%d, adopt at a fresh successor", 4+2*i), r.flows(s, begin, 20*time.Second))
		after := r.tunnelOf(drivers[1], s, 10*time.Second)
		time.Sleep(flood)
		begin = time.Now()
		r.pin(s, 0)
		r.must("adopt", drivers[0].Adopt(t.Context(), inherited(s, after)))
		measured(t, fmt.Sprintf("kernel WireGuard, IPv%d, adopt where a stale tunnel was", 4+2*i), r.flows(s, begin, 20*time.Second))
		r.must("release", drivers[1].Release(t.Context(), inherited(s, before)))
		r.gone(drivers[1], s, 20*time.Second)
	}
	r.unchanged(r.RealServers[0].NS, servers, many)
	r.unchanged(r.RealServers[1].NS, servers, many)
	w, err := drivers[0].Work(t.Context())
	r.must("work", err)
	if len(w.Processes) != 0 || w.Devices[0] != "wg0" || w.Sockets[0].Port() != lab.WireGuardPort {
		t.Errorf("it works with %+v", w)
	}
	r.must("delete the device", r.RealServers[0].NS.Run(func() error {
		return netlink.LinkDel(&netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Name: "wg0"}})
	}))
	if _, err := drivers[0].Tunnels(t.Context()); !errors.Is(err, terminator.ErrGone) {
		t.Errorf("without the device: %v", err)
	}
}

// unchanged sees that all of the peers' configuration is what it was, the endpoint excepted.
func (r *rig) unchanged(ns *lab.Namespace, c wgtypes.Config, many int) {
	r.Helper()
	r.must("read WireGuard", ns.Run(func() error {
		w, err := wgctrl.New()
		if err != nil {
			return err
		}
		defer w.Close()
		d, err := w.Device("wg0")
		if err != nil {
			return err
		}
		for i, want := range c.Peers {
			n := len(want.AllowedIPs)
			if i == 1 {
				n += many
			}
			found := false
			for _, got := range d.Peers {
				if got.PublicKey == want.PublicKey {
					found = got.PresharedKey == *want.PresharedKey && got.PersistentKeepaliveInterval == 0 && len(got.AllowedIPs) == n
				}
			}
			if !found {
				r.Errorf("%s: peer %d is not what it was", ns.Name, i)
			}
		}
		return nil
	}))
}
