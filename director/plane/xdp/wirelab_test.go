//go:build linux

package xdp

import (
	"context"
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
	"tunneldirector/integration/spaces"
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
	in(t, here, func() (err error) {
		if ns, err = netns.New(); err != nil {
			return err
		}
		return errors.Join(sysctl("ipv6/conf/default/dad_transmits", "0"), sysctl("ipv6/conf/default/accept_dad", "0")) // two seconds of every test
	})
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

func newLab(t *testing.T) *lab { return newLabWith(t, func(*Options) {}) }

func newLabWith(t *testing.T, change func(*Options)) *lab {
	t.Helper()
	spaces.Root(t)
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
	change(&l.options)
	l.open(t)
	t.Cleanup(func() { l.close(t) })
	l.configure(t)
	l.waitForNeighbours(t, 1, 2, 3)
	return l
}

// newRoutedLab is a lab with one interface, and a router behind it, by which both the site and the real server are reached:
//
//	[director] arm ── router ── site
//	                         └─ rsA
func newRoutedLab(t *testing.T) *lab {
	t.Helper()
	spaces.Root(t)
	l := &lab{site: newNS(t), director: newNS(t), rsA: newNS(t)}
	router := newNS(t)
	in(t, router, func() error {
		return errors.Join(sysctl("ipv4/ip_forward", "1"), sysctl("ipv6/conf/all/forwarding", "1"), sysctl("ipv4/conf/all/rp_filter", "0"), sysctl("ipv4/conf/default/rp_filter", "0"))
	})
	wire(t, l.director, router, "arm", "10.9.3", "2001:db8:93")
	wire(t, router, l.site, "site", "198.51.100", "2001:db8:51")
	wire(t, router, l.rsA, "rs", "10.9.1", "2001:db8:91")
	in(t, l.director, func() error {
		for to, via := range map[string]string{"10.9.1.0/24": "10.9.3.1", "2001:db8:91::/64": "2001:db8:93::1"} {
			dst, err := netlink.ParseIPNet(to)
			if err != nil {
				return err
			}
			if err := netlink.RouteAdd(&netlink.Route{Dst: dst, Gw: net.ParseIP(via)}); err != nil {
				return err
			}
		}
		return nil
	})
	l.options = Options{Interfaces: []plane.Interface{{Name: "arm", Roles: plane.RoleTunnel | plane.RoleRealServers}}, PinPath: pinPath(t), MaxPins: 4096, MaxSubnets: 4096}
	l.open(t)
	t.Cleanup(func() { l.close(t) })
	c := labConfig()
	c.RealServers = []plane.RealServer{c.RealServers[0], c.RealServers[2]} // of one address
	replaceAll(t, l.p, c, endpoint("192.0.2.3", "198.51.100.1", 0, 3, 0), endpoint("2001:db8::3", "2001:db8:51::1", 0, 3, 0),
		endpoint("192.0.2.1", "198.51.100.1", 0, 1, 0), endpoint("2001:db8::1", "2001:db8:51::1", 0, 1, 0))
	l.waitForNeighbours(t, 1, 3)
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

// waitForNeighbours waits until Run has found these real servers.
func (l *lab) waitForNeighbours(t *testing.T, servers ...affinity.Index) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		missing := 0
		for _, i := range servers {
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
