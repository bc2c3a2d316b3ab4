package lab

import (
	"bufio"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"
)

// WireGuardPort is where the virtual service listens.
const WireGuardPort = 51820

const tunnelMTU = 1420

// wgConfig is one WireGuard interface.
type wgConfig struct {
	name   string
	key    *ecdh.PrivateKey
	locals []netip.Addr
	port   uint16 // 0: any
	peers  []wgPeer
}

type wgPeer struct {
	key       *ecdh.PublicKey
	endpoint  netip.AddrPort // zero: it calls us
	allowed   []netip.Prefix
	keepalive time.Duration
}

func newKey() (*ecdh.PrivateKey, error) {
	k, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	return k, nil
}

// openWireGuard makes the TUN device in ns, sets it up, and runs WireGuard on it until Close of what it returns.
func openWireGuard(ns *Namespace, c wgConfig, counts *counters, g *gate, log *slog.Logger) (*device.Device, *bind, error) {
	dev, err := openTUN(ns, c.name)
	if err != nil {
		return nil, nil, fmt.Errorf("make TUN device %s in %s: %w", c.name, ns.Name, err)
	}
	log = log.With("namespace", ns.Name, "interface", c.name)
	at := &bind{ns: ns, locals: c.locals, counts: counts, gate: g}
	wg := device.NewDevice(&countedTUN{dev, counts, g}, at, &device.Logger{
		Verbosef: func(format string, args ...any) {
			if log.Enabled(context.Background(), slog.LevelDebug) {
				log.Debug("wireguard", "text", fmt.Sprintf(format, args...))
			}
		},
		Errorf: func(format string, args ...any) { log.Warn("wireguard", "text", fmt.Sprintf(format, args...)) },
	})
	if err := wg.IpcSet(c.uapi()); err != nil {
		wg.Close()
		return nil, nil, fmt.Errorf("configure %s in %s: %w", c.name, ns.Name, err)
	}
	if err := wg.Up(); err != nil {
		wg.Close()
		return nil, nil, fmt.Errorf("start %s in %s: %w", c.name, ns.Name, err)
	}
	return wg, at, ns.up(c.name)
}

// uapi is the configuration in WireGuard's own configuration protocol.
func (c wgConfig) uapi() string {
	var b strings.Builder
	fmt.Fprintf(&b, "private_key=%s\nlisten_port=%d\n", hex.EncodeToString(c.key.Bytes()), c.port)
	for _, p := range c.peers {
		fmt.Fprintf(&b, "public_key=%s\nreplace_allowed_ips=true\n", hex.EncodeToString(p.key.Bytes()))
		if p.endpoint.IsValid() {
			fmt.Fprintf(&b, "endpoint=%s\n", p.endpoint)
		}
		for _, a := range p.allowed {
			fmt.Fprintf(&b, "allowed_ip=%s\n", a)
		}
		fmt.Fprintf(&b, "persistent_keepalive_interval=%d\n", int(p.keepalive/time.Second))
	}
	return b.String()
}

// openTUN makes a TUN device without offloads: one packet a read, checksums computed by the kernel.
func openTUN(ns *Namespace, name string) (tun.Device, error) {
	var dev tun.Device
	err := ns.Run(func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			return os.NewSyscallError("open /dev/net/tun", err)
		}
		req, err := unix.NewIfreq(name)
		if err == nil {
			req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
			err = os.NewSyscallError("TUNSETIFF", unix.IoctlIfreq(fd, unix.TUNSETIFF, req))
		}
		if err != nil {
			unix.Close(fd)
			return err
		}
		dev, _, err = tun.CreateUnmonitoredTUNFromFD(fd)
		return err
	})
	if err != nil {
		return nil, err
	}
	link, err := ns.nl.LinkByName(name)
	if err == nil {
		err = errors.Join(ns.nl.LinkSetMTU(link, tunnelMTU), ns.nl.LinkSetTxQLen(link, 10_000))
	}
	if err != nil {
		dev.Close()
		return nil, err
	}
	return dev, nil
}

// countedTUN counts packets per site and knows its MTU: the library would ask the namespace of whichever thread asks.
type countedTUN struct {
	tun.Device
	counts *counters
	gate   *gate
}

func (t *countedTUN) MTU() (int, error) { return tunnelMTU, nil }

func (t *countedTUN) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	n, err := t.Device.Read(bufs, sizes, offset)
	t.gate.pass()
	if t.counts != nil {
		for i := range n {
			t.counts.encrypting(bufs[i][offset : offset+sizes[i]])
		}
	}
	return n, err
}

func (t *countedTUN) Write(bufs [][]byte, offset int) (int, error) {
	t.gate.pass()
	if t.counts != nil { // before the target can answer
		for _, buf := range bufs {
			t.counts.decrypted(buf[offset:])
		}
	}
	return t.Device.Write(bufs, offset)
}

// A Peer is what WireGuard itself says of a peer.
type Peer struct {
	Endpoint      netip.AddrPort
	LastHandshake time.Time // zero: none
	RxBytes       uint64
	TxBytes       uint64
}

// readPeer asks a device about one peer.
func readPeer(wg *device.Device, key *ecdh.PublicKey) (Peer, error) {
	text, err := wg.IpcGet()
	if err != nil {
		return Peer{}, fmt.Errorf("ask WireGuard: %w", err)
	}
	var p Peer
	var sec, nsec int64
	mine := false
	for s := bufio.NewScanner(strings.NewReader(text)); s.Scan(); {
		k, v, _ := strings.Cut(s.Text(), "=")
		if k == "public_key" {
			mine = v == hex.EncodeToString(key.Bytes())
		}
		if !mine {
			continue
		}
		switch k {
		case "endpoint":
			p.Endpoint, err = netip.ParseAddrPort(v)
		case "last_handshake_time_sec":
			sec, err = strconv.ParseInt(v, 10, 64)
		case "last_handshake_time_nsec":
			nsec, err = strconv.ParseInt(v, 10, 64)
		case "rx_bytes":
			p.RxBytes, err = strconv.ParseUint(v, 10, 64)
		case "tx_bytes":
			p.TxBytes, err = strconv.ParseUint(v, 10, 64)
		}
		if err != nil {
			return Peer{}, fmt.Errorf("read WireGuard's answer: %w", err)
		}
	}
	if sec != 0 || nsec != 0 {
		p.LastHandshake = time.Unix(sec, nsec)
	}
	return p, nil
}
