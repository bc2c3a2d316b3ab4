//go:build linux

package xdp

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"tunneldirector/director/plane"
)

func TestOnTheWire(t *testing.T) {
	l := newLab(t)
	serve(t, l.rsA, "A", 4500, 443)
	serve(t, l.rsB, "B", 4500, 443)
	for _, step := range []struct {
		alive bool
		want  string
	}{{true, "A"}, {false, "B"}} {
		must(t, l.p.SetAlive(1, step.alive))
		for _, vip := range []string{"192.0.2.1", "2001:db8::1"} {
			if got := l.ask(t, net.JoinHostPort(vip, "4500"), 200); got != step.want+" 200" {
				t.Errorf("UDP to %s: %q, want %s", vip, got, step.want)
			}
			if got := l.ask(t, net.JoinHostPort(vip, "4500"), 4000); got != step.want+" 4000" {
				t.Errorf("fragments to %s: %q, want %s", vip, got, step.want)
			}
			c := l.dial(t, "tcp", net.JoinHostPort(vip, "443"))
			got, err := io.ReadAll(c)
			if err != nil || string(got) != step.want {
				t.Errorf("TCP to %s: %q, %v, want %s", vip, got, err, step.want)
			}
		}
	}
	s, err := l.p.Stats()
	must(t, err)
	if s.RealServers[1].Packets == 0 || s.RealServers[2].Packets == 0 || s.Reasons[plane.DropNoNeighbour] != 0 {
		t.Errorf("stats %+v", s)
	}
}

// sniff opens a socket that sees every frame of eth0 in ns.
func sniff(t *testing.T, ns netns.NsHandle) (read func() []byte) {
	t.Helper()
	var fd int
	in(t, ns, func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(binary.NativeEndian.Uint16([]byte{0, 3}))) // ETH_P_ALL
		if err != nil {
			return err
		}
		return unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 3})
	})
	t.Cleanup(func() { unix.Close(fd) })
	return func() []byte {
		t.Helper()
		buf := make([]byte, 9000)
		n, err := unix.Read(fd, buf)
		must(t, err)
		return buf[:n]
	}
}

func TestIPIPOnTheWire(t *testing.T) {
	l := newLab(t)
	for _, c := range []struct {
		vip   string
		ether []byte
		head  int
		proto byte
		at    int
		rs    string
		from  string
	}{
		{"192.0.2.3", []byte{8, 0}, 20, 4, 9, "10.9.1.1", "10.9.1.254"},
		{"2001:db8::3", []byte{0x86, 0xdd}, 40, 41, 6, "2001:db8:91::1", "2001:db8:91::fe"},
	} {
		read := sniff(t, l.rsA)
		payload := bytes.Repeat([]byte("tunnel"), 50)
		_, err := l.dial(t, "udp", net.JoinHostPort(c.vip, "500")).Write(payload)
		must(t, err)
		for {
			f := read()
			if !bytes.Equal(f[12:14], c.ether) || f[14+c.at] != c.proto {
				continue // ARP, neighbour discovery
			}
			ip := f[14:]
			size := c.head / 20 * 4
			if c.head == 40 {
				size = 16
			}
			src, _ := netip.AddrFromSlice(ip[c.head-2*size : c.head-size])
			dst, _ := netip.AddrFromSlice(ip[c.head-size : c.head])
			if src != addr(c.from) || dst != addr(c.rs) {
				t.Errorf("outer header from %v to %v", src, dst)
			}
			inner := ip[c.head:]
			if in, _ := netip.AddrFromSlice(inner[c.head-size : c.head]); in != addr(c.vip) {
				t.Errorf("inner destination %v", in)
			}
			if !bytes.Equal(inner[c.head+8:], payload) {
				t.Error("the payload changed")
			}
			break
		}
	}
}

// TestSenderLearnsPathMTU: the site's own stack believes the ICMP error.
func TestSenderLearnsPathMTU(t *testing.T) {
	l := newLab(t)
	for _, c := range []struct {
		vip                          string
		level, discover, do, mtu, to int
		headers                      int
	}{
		{"192.0.2.3", unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO, unix.IP_MTU, 1480, 28},
		{"2001:db8::3", unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DO, unix.IPV6_MTU, 1460, 48},
	} {
		conn := l.dial(t, "udp", net.JoinHostPort(c.vip, "4500")).(*net.UDPConn)
		raw, err := conn.SyscallConn()
		must(t, err)
		option := func(f func(fd int) error) {
			var inner error
			must(t, raw.Control(func(fd uintptr) { inner = f(int(fd)) }))
			must(t, inner)
		}
		option(func(fd int) error { return unix.SetsockoptInt(fd, c.level, c.discover, c.do) })
		_, err = conn.Write(make([]byte, c.to-c.headers+1))
		must(t, err)
		got, deadline := 0, time.Now().Add(5*time.Second)
		for got != c.to && time.Now().Before(deadline) {
			time.Sleep(10 * time.Millisecond)
			option(func(fd int) (err error) { got, err = unix.GetsockoptInt(fd, c.level, c.mtu); return err })
		}
		if got != c.to {
			t.Errorf("path MTU to %s is %d, want %d", c.vip, got, c.to)
		}
	}
}

// TestRestartUnderTraffic: the daemon goes and comes again, and changes its layout; no datagram is lost.
func TestRestartUnderTraffic(t *testing.T) {
	l := newLab(t)
	got := serve(t, l.rsA, "A", 4500, 443)
	c := l.dial(t, "udp", "192.0.2.1:4500")
	stop, sent := make(chan struct{}), make(chan int64)
	go func() {
		n := int64(0)
		tick := time.NewTicker(500 * time.Microsecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				sent <- n
				return
			case <-tick.C:
				if _, err := c.Write([]byte("x")); err == nil {
					n++
				}
			}
		}
	}()
	for i := range 4 {
		l.close(t)
		if i == 3 {
			l.options.MaxPins = 5000 // another layout
		}
		l.open(t)
		l.configure(t)
	}
	time.Sleep(50 * time.Millisecond)
	close(stop)
	n := <-sent
	deadline := time.Now().Add(2 * time.Second)
	for got.Load() < n && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	if got.Load() != n || n < 100 {
		t.Errorf("%d of %d datagrams arrived", got.Load(), n)
	}
}

// TestNeighbourMoves: a real server's MAC address changes and the program follows; it vanishes and the last one stays.
func TestNeighbourMoves(t *testing.T) {
	l := newLab(t)
	mac := net.HardwareAddr{2, 7, 7, 7, 7, 7}
	neighbour := func(ll net.HardwareAddr, state int) {
		in(t, l.director, func() error {
			ra, err := netlink.LinkByName("ra")
			if err != nil {
				return err
			}
			return netlink.NeighSet(&netlink.Neigh{LinkIndex: ra.Attrs().Index, IP: net.ParseIP("10.9.1.1"), HardwareAddr: ll, State: state})
		})
	}
	known := func() net.HardwareAddr {
		m, ok, err := l.p.macOf(1, false)
		must(t, err)
		if !ok {
			t.Fatal("the neighbour is not known any more")
		}
		return m[:]
	}
	neighbour(mac, netlink.NUD_REACHABLE)
	deadline := time.Now().Add(3 * time.Second)
	for !bytes.Equal(known(), mac) && time.Now().Before(deadline) {
		time.Sleep(5 * time.Millisecond)
	}
	if !bytes.Equal(known(), mac) {
		t.Fatalf("the program sends to %v, want %v", known(), mac)
	}
	neighbour(nil, netlink.NUD_FAILED)
	time.Sleep(10 * settleTime)
	known() // fails the test if nothing is
}

// TestNeighbourIsManaged: the kernel keeps the entry fresh by itself, also without a daemon.
func TestNeighbourIsManaged(t *testing.T) {
	l := newLab(t)
	managed := 0
	in(t, l.director, func() error {
		list, err := netlink.NeighList(0, unix.AF_INET)
		for _, n := range list {
			if n.FlagsExt&netlink.NTF_EXT_MANAGED != 0 {
				managed++
			}
		}
		return err
	})
	if managed != 2 {
		t.Errorf("%d managed IPv4 neighbours, want 2", managed)
	}
}

// TestRouteElsewhereIsRefused: a real server behind an interface without the role gets nothing, and a warning says why.
func TestRouteElsewhereIsRefused(t *testing.T) {
	l := newLab(t)
	c := labConfig()
	c.RealServers[0].Addrs = []netip.Addr{addr("198.51.100.1")}
	must(t, l.p.Apply(t.Context(), plane.Update{Config: &c}))
	time.Sleep(10 * settleTime)
	if _, known, err := l.p.macOf(1, false); err != nil || known {
		t.Errorf("known: %v, %v", known, err)
	}
	if !says(l.p, "rsA", "198.51.100.1", "interface tun, which has not the role real-servers") {
		t.Errorf("warned of %q", l.p.Warnings())
	}
	d, err := l.p.Lookup(plane.Packet{Src: addr("198.51.100.1"), Dst: addr("192.0.2.1"), Proto: 50, Hops: 9})
	must(t, err)
	if d.Reason != plane.DropNoNeighbour {
		t.Errorf("decided %v", d.Reason)
	}
}
