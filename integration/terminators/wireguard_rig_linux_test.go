package terminators

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"

	"tunneldirector/integration/lab"
	"tunneldirector/realserver/space"
	"tunneldirector/realserver/terminator/wireguard"
)

const wireguardMTU = 1420

// A wireguardRig has wireguard-go at sites and real servers, with sockets as the program opens them, and drivers of the latter.
type wireguardRig struct {
	*rig
	from    *lab.Site
	calls   *ecdh.PrivateKey // of the site
	shared  string
	drivers []*wireguard.Terminator
	devices []*device.Device
}

// newWireGuardRig starts wireguard-go at a site, 1 (IPv4) or 2 (IPv6), and at all real servers, with the site at the first of
// them. Each peer has a key shared with it. One family at a time: wireguard-go sends IPv6 to a cut address after it sent IPv4.
func newWireGuardRig(t *testing.T, site int) *wireguardRig {
	t.Helper()
	userspace(t)
	r := &wireguardRig{rig: newRig(t, lab.Options{Sites: site, IPv6: true})}
	service := r.key()
	r.shared = hex.EncodeToString(r.key().Bytes())
	var peers strings.Builder
	r.from, r.calls = r.Sites[site-1], r.key()
	r.pin(r.from, 0)
	fmt.Fprintf(&peers, "public_key=%x\npreshared_key=%s\n", r.calls.PublicKey().Bytes(), r.shared)
	for _, subnet := range r.from.Subnets {
		fmt.Fprintf(&peers, "allowed_ip=%s\n", subnet)
	}
	for _, rs := range r.RealServers {
		r.sourced(rs)
		d := r.start(rs.NS, fmt.Sprintf("private_key=%x\nlisten_port=%d\n%s", service.Bytes(), lab.WireGuardPort, peers.String()))
		for _, cover := range lab.Covers {
			r.must("route", rs.NS.Route(cover, netip.Addr{}, "wg0"))
		}
		r.devices = append(r.devices, d)
		r.drivers = append(r.drivers, wireguard.New(wireguard.Options{
			Device: "wg0", Socket: r.serve(rs.NS, d), Space: space.Space(rs.NS.Name), VIPs: r.VIPs,
		}))
	}
	r.site(r.from, r.calls, service.PublicKey())
	return r
}

func (r *wireguardRig) key() *ecdh.PrivateKey {
	r.Helper()
	k, err := ecdh.X25519().GenerateKey(rand.Reader)
	r.must("make a key", err)
	return k
}

// site starts a site's, which calls and keeps its NAT open, as most do.
func (r *wireguardRig) site(s *lab.Site, k *ecdh.PrivateKey, service *ecdh.PublicKey) {
	r.Helper()
	r.start(s.NS, fmt.Sprintf("private_key=%x\npublic_key=%x\npreshared_key=%s\nendpoint=%s\nallowed_ip=%s\nallowed_ip=2001:db8:c::/64\npersistent_keepalive_interval=25\n",
		k.Bytes(), service.Bytes(), r.shared, netip.AddrPortFrom(s.VIP, lab.WireGuardPort), r.inner()))
	r.must("route", s.NS.Route(r.inner(), netip.Addr{}, "wg0"))
}

// sourced gives a real server default routes whose source is the VIP.
func (r *rig) sourced(rs *lab.RealServer) {
	r.Helper()
	r.must("route from the VIP", rs.NS.Run(func() error {
		dev, err := netlink.LinkByName(rs.DR.Name)
		if err != nil {
			return err
		}
		for i, vip := range r.VIPs {
			any := &net.IPNet{IP: make(net.IP, vip.BitLen()/8), Mask: net.CIDRMask(0, vip.BitLen())}
			err = errors.Join(err, netlink.RouteReplace(&netlink.Route{
				Dst: any, Gw: r.Router.RS.Addrs[i].AsSlice(), Src: vip.AsSlice(), LinkIndex: dev.Attrs().Index,
			}))
		}
		return err
	}))
}

// start runs wireguard-go in this process, on a TUN device wg0 in a namespace.
func (r *rig) start(ns *lab.Namespace, config string) *device.Device {
	r.Helper()
	var d *device.Device
	r.must("start WireGuard in "+ns.Name, ns.Run(func() error {
		dev, err := openTUN()
		if err != nil {
			return err
		}
		d = device.NewDevice(fixedMTU{dev}, conn.NewDefaultBind(), device.NewLogger(device.LogLevelSilent, ""))
		return errors.Join(d.IpcSet(config), d.Up())
	}))
	r.Cleanup(d.Close)
	r.up(ns, "wg0")
	return d
}

// openTUN makes wg0 in the thread's namespace.
func openTUN() (tun.Device, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("open /dev/net/tun", err)
	}
	req, err := unix.NewIfreq("wg0")
	if err == nil {
		req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = os.NewSyscallError("TUNSETIFF", unix.IoctlIfreq(fd, unix.TUNSETIFF, req))
	}
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	dev, _, err := tun.CreateUnmonitoredTUNFromFD(fd)
	return dev, err
}

// fixedMTU knows its MTU: the library would ask the namespace of whichever thread asks.
type fixedMTU struct{ tun.Device }

func (fixedMTU) MTU() (int, error) { return wireguardMTU, nil }

// serve answers on a configuration socket, as the program does.
func (r *rig) serve(ns *lab.Namespace, d *device.Device) string {
	r.Helper()
	socket := filepath.Join(ns.RunDir(), "wg0.sock")
	r.must("make a directory", os.MkdirAll(ns.RunDir(), 0o755))
	l, err := net.Listen("unix", socket)
	r.must("listen", err)
	r.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go d.IpcHandle(c)
		}
	}()
	return socket
}
