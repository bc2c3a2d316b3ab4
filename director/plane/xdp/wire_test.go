//go:build linux

package xdp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
)

// A lab is sites, a director and two real servers, each in a namespace, on real (virtual) wires:
//
//	site ── tun [director] ra ── rsA (VIPs on lo)
//	                       rb ── rsB (VIPs on lo)
type lab struct {
	site, director, rsA, rsB netns.NsHandle
	p                        *Plane
	options                  Options
	stop                     func()
}

var labInterfaces = []plane.Interface{{Name: "tun", Roles: plane.RoleTunnel}, {Name: "ra", Roles: plane.RoleRealServers}, {Name: "rb", Roles: plane.RoleRealServers}}

// in calls f in a namespace; sockets made there stay there.
func in(t testing.TB, ns netns.NsHandle, f func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine
		if err := netns.Set(ns); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	must(t, <-done)
}

func newNS(t testing.TB) netns.NsHandle {
	t.Helper()
	var ns netns.NsHandle
	here, err := netns.Get()
	must(t, err)
	in(t, here, func() (err error) { ns, err = netns.New(); return err })
	must(t, here.Close())
	t.Cleanup(func() { ns.Close() })
	return ns
}

// wire makes a veth pair from the director's end to end "eth0" in ns, with addresses NET.254 and NET.1, and v6 alike.
func wire(t testing.TB, director, ns netns.NsHandle, name, net4, net6 string) {
	t.Helper()
	in(t, director, func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = name
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(ns)})
	})
	in(t, director, func() error { return upWith(name, net4+".254/24", net6+"::fe/64") })
	in(t, ns, func() error {
		if err := upWith("eth0", net4+".1/24", net6+"::1/64"); err != nil {
			return err
		}
		for _, gw := range []string{net4 + ".254", net6 + "::fe"} {
			if err := netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP(gw)}); err != nil {
				return err
			}
		}
		if _, err := ethtool("eth0", ethtoolValue{cmd: 0x17}); err != nil { // ETHTOOL_STXCSUM: no hardware here fills checksums in
			return err
		}
		return passAll("eth0")
	})
}

func upWith(name string, addrs ...string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	for _, s := range addrs {
		a, err := netlink.ParseAddr(s)
		if err != nil {
			return err
		}
		a.Flags = unix.IFA_F_NODAD
		if err := netlink.AddrAdd(l, a); err != nil {
			return err
		}
	}
	return netlink.LinkSetUp(l)
}

// passAll attaches a program that passes all: a veth takes redirected frames only if its peer has one.
func passAll(name string) error {
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, License: "GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, xdpPass), asm.Return()}})
	if err != nil {
		return err
	}
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	held, err := link.AttachXDP(link.XDPOptions{Program: prog, Interface: l.Attrs().Index})
	runtime.KeepAlive(held)
	if err == nil {
		keepLinks = append(keepLinks, held)
	}
	return err
}

// keepLinks holds the labs' links to the end of the test process: each goes with its namespace.
var keepLinks []link.Link

func sysctl(path, value string) error { return os.WriteFile("/proc/sys/net/"+path, []byte(value), 0) }

var labVIPs = []string{"192.0.2.1/32", "192.0.2.3/32", "2001:db8::1/128", "2001:db8::3/128"}

func newLab(t *testing.T) *lab {
	t.Helper()
	needRoot(t)
	l := &lab{site: newNS(t), director: newNS(t), rsA: newNS(t), rsB: newNS(t)}
	in(t, l.director, func() error {
		return errors.Join(sysctl("ipv4/ip_forward", "1"), sysctl("ipv6/conf/all/forwarding", "1"), sysctl("ipv4/conf/all/rp_filter", "0"), sysctl("ipv4/conf/default/rp_filter", "0"))
	})
	wire(t, l.director, l.site, "tun", "198.51.100", "2001:db8:51")
	wire(t, l.director, l.rsA, "ra", "10.9.1", "2001:db8:91")
	wire(t, l.director, l.rsB, "rb", "10.9.2", "2001:db8:92")
	for _, rs := range []netns.NsHandle{l.rsA, l.rsB} {
		in(t, rs, func() error { return upWith("lo", labVIPs...) })
	}
	l.options = Options{Interfaces: labInterfaces, PinPath: pinPath(t), MaxPins: 4096, MaxSubnets: 4096}
	l.open(t)
	t.Cleanup(func() { l.close(t) })
	l.configure(t)
	l.waitForNeighbours(t)
	return l
}

func (l *lab) open(t *testing.T) {
	t.Helper()
	in(t, l.director, func() (err error) { l.p, err = Open(l.options); return err })
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	p := l.p
	go func() { done <- p.Run(ctx) }()
	l.stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func (l *lab) close(t *testing.T) {
	l.stop()
	must(t, l.p.Close())
}

func labConfig() plane.Config {
	c := example()
	c.RealServers = []plane.RealServer{
		{Index: 1, Name: "rsA", Addrs: []netip.Addr{addr("10.9.1.1"), addr("2001:db8:91::1")}, Alive: true},
		{Index: 2, Name: "rsB", Addrs: []netip.Addr{addr("10.9.2.1"), addr("2001:db8:92::1")}, Alive: true},
		{Index: 3, Name: "rsA by IPIP", Addrs: []netip.Addr{addr("10.9.1.1"), addr("2001:db8:91::1")}, Alive: true, Method: affinity.IPIP},
	}
	c.Services[2].Match = append(c.Services[2].Match, affinity.Match{Proto: 17, Lo: 4500, Hi: 4500})
	c.Services[0].Match = append(c.Services[0].Match, affinity.Match{Proto: 6, Lo: 443, Hi: 443})
	c.Own = []netip.Addr{addr("198.51.100.254")}
	return c
}

func (l *lab) configure(t *testing.T) {
	t.Helper()
	replaceAll(t, l.p, labConfig(),
		endpoint("192.0.2.1", "198.51.100.1", 0, 1, 2), endpoint("2001:db8::1", "2001:db8:51::1", 0, 1, 2),
		endpoint("192.0.2.3", "198.51.100.1", 0, 3, 0), endpoint("2001:db8::3", "2001:db8:51::1", 0, 3, 0))
}

// waitForNeighbours waits until Run has found all real servers.
func (l *lab) waitForNeighbours(t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		missing := 0
		for _, i := range []affinity.Index{1, 2, 3} {
			for _, v6 := range []bool{false, true} {
				_, known, err := l.p.macOf(i, v6)
				must(t, err)
				if !known {
					missing++
				}
			}
		}
		if missing == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d real servers' neighbours not found", missing)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// serve answers every datagram and every TCP line at port with "NAME LENGTH".
func serve(t *testing.T, ns netns.NsHandle, name string, udpPort, tcpPort int) *atomic.Int64 {
	t.Helper()
	var n atomic.Int64
	for _, vip := range labVIPs {
		ip, _, _ := strings.Cut(vip, "/")
		in(t, ns, func() error {
			u, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(ip), Port: udpPort})
			if err != nil {
				return err
			}
			l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.ParseIP(ip), Port: tcpPort})
			if err != nil {
				return err
			}
			t.Cleanup(func() { u.Close(); l.Close() })
			go func() {
				buf := make([]byte, 65536)
				for {
					k, from, err := u.ReadFromUDP(buf)
					if err != nil {
						return
					}
					n.Add(1)
					_, _ = u.WriteToUDP(fmt.Appendf(nil, "%s %d", name, k), from)
				}
			}()
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					_, _ = io.WriteString(c, name)
					c.Close()
				}
			}()
			return nil
		})
	}
	return &n
}

func (l *lab) dial(t *testing.T, network, to string) (c net.Conn) {
	t.Helper()
	in(t, l.site, func() (err error) { c, err = net.DialTimeout(network, to, 5*time.Second); return err })
	t.Cleanup(func() { c.Close() })
	must(t, c.SetDeadline(time.Now().Add(5*time.Second)))
	return c
}

func (l *lab) ask(t *testing.T, to string, size int) string {
	t.Helper()
	c := l.dial(t, "udp", to)
	_, err := c.Write(make([]byte, size))
	must(t, err)
	buf := make([]byte, 100)
	n, err := c.Read(buf)
	must(t, err)
	return string(buf[:n])
}

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

// TestRouteElsewhereIsRefused: a real server behind an interface without the role gets nothing, and the log says why.
func TestRouteElsewhereIsRefused(t *testing.T) {
	l := newLab(t)
	c := labConfig()
	c.RealServers[0].Addrs = []netip.Addr{addr("198.51.100.1")}
	must(t, l.p.Apply(t.Context(), plane.Update{Config: &c}))
	time.Sleep(10 * settleTime)
	if _, known, err := l.p.macOf(1, false); err != nil || known {
		t.Errorf("known: %v, %v", known, err)
	}
	d, err := l.p.Lookup(plane.Packet{Src: addr("198.51.100.1"), Dst: addr("192.0.2.1"), Proto: 50, Hops: 9})
	must(t, err)
	if d.Reason != plane.DropNoNeighbour {
		t.Errorf("decided %v", d.Reason)
	}
}
