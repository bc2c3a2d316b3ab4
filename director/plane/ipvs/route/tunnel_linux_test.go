package route

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tunneldirector/director/plane"
	"tunneldirector/integration/spaces"
)

// A way is one family's part of the tunnel tests.
type way struct {
	name   string
	v6     bool
	outers [2]netip.Addr // real servers
	inner  netip.Addr    // of a subnet
	target netip.Addr
	own    netip.Addr // the director's, on the way to real servers
	proto  string     // of an IPIP packet, for net.DialIP
	header int        // bytes of the outer header
}

var ways = []way{
	{"4in4", false, gateways4, netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("203.0.113.2"), netip.MustParseAddr("192.0.2.1"), "ip4:4", 20},
	{"6in6", true, gateways6, netip.MustParseAddr("2001:db8:5::1"), netip.MustParseAddr("2001:db8:9::2"), netip.MustParseAddr("2001:db8:2::1"), "ip6:41", 40},
}

// newTunnelLab has both tunnel devices, or skips where the kernel has none.
func newTunnelLab(t testing.TB) *lab {
	t.Helper()
	l := newLab(t)
	for _, v6 := range []bool{false, true, false, true} { // it is idempotent
		err := l.t.EnsureTunnel(v6)
		if errors.Is(err, plane.ErrUnsupported) && os.Getenv("TUNNELDIRECTOR_VM") == "" {
			t.Skip(err)
		}
		must(t, err)
	}
	return l
}

// lead sends the packets for a way's subnet from the target to real server i, by the tunnel.
func (l *lab) lead(t testing.TB, w way, i int) {
	t.Helper()
	n := Nexthop{ID: 1, V6: w.v6, Encap: w.outers[i]}
	must(t, l.t.SetNexthops(t.Context(), []Nexthop{n}))
	must(t, l.t.SetRoutes(t.Context(), []Route{{table, netip.PrefixFrom(w.inner, w.inner.BitLen()), 1, 10}}))
	must(t, l.t.SetRules(t.Context(), []Rule{{Priority: 7401, V6: w.v6, IIF: "in0", Table: table}}))
	if got := l.nexthops(t); len(got) != 1 || got[0] != n {
		t.Fatalf("%v was set, %v is there", n, got)
	}
}

// listen captures what comes in by an interface of s.
func listen(s spaces.Space, name string) *packet.Conn {
	s.T.Helper()
	var c *packet.Conn
	s.Do(func() {
		i, err := net.InterfaceByName(name)
		must(s.T, err)
		c, err = packet.Listen(i, packet.Raw, unix.ETH_P_ALL, nil)
		must(s.T, err)
	})
	s.T.Cleanup(func() { c.Close() })
	return c
}

// wrapped are the IPIP packets that come in before a quiet moment.
func wrapped(t testing.TB, c *packet.Conn, w way) (list []gopacket.Packet) {
	t.Helper()
	b := make([]byte, 1<<16)
	for {
		must(t, c.SetReadDeadline(time.Now().Add(200*time.Millisecond)))
		n, _, err := c.ReadFrom(b)
		if err != nil {
			return list
		}
		p := gopacket.NewPacket(b[:n], layers.LayerTypeEthernet, gopacket.Default)
		if !w.v6 {
			if ip, ok := p.NetworkLayer().(*layers.IPv4); ok && ip.Protocol == layers.IPProtocolIPv4 {
				list = append(list, p)
			}
		} else if ip, ok := p.NetworkLayer().(*layers.IPv6); ok && ip.NextHeader == layers.IPProtocolIPv6 {
			list = append(list, p)
		}
	}
}

// option sets or reads an integer option of a socket.
func option(t testing.TB, c net.Conn, f func(fd int) error) {
	t.Helper()
	raw, err := c.(*net.UDPConn).SyscallConn()
	must(t, err)
	must(t, errors.Join(raw.Control(func(fd uintptr) { err = f(int(fd)) }), err))
}

// The target's packets leave by IPIP for the real server, and follow to another.
func TestTunnel(t *testing.T) {
	l := newTunnelLab(t)
	for _, w := range ways {
		send := connect(l.target, w.inner)
		const tos = 0xb9 // DSCP EF, ECN ECT(1)
		option(t, send, func(fd int) error {
			if w.v6 {
				return errors.Join(unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_TCLASS, tos), unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, 33))
			}
			return errors.Join(unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TOS, tos), unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TTL, 33))
		})
		for i, rs := range l.rs {
			at := listen(rs, "eth0")
			l.lead(t, w, i)
			send.Write([]byte("x"))
			got := wrapped(t, at, w)
			if len(got) != 1 {
				t.Fatalf("%s: %d IPIP packets came to real server %d", w.name, len(got), i)
			}
			var outer, inner [3]int // TTL, TOS, DF
			var dst, src, innerDst net.IP
			n := 0
			for _, layer := range got[0].Layers() {
				var h [3]int
				var from, to net.IP
				switch ip := layer.(type) {
				case *layers.IPv4:
					h, from, to = [3]int{int(ip.TTL), int(ip.TOS), int(ip.Flags & layers.IPv4DontFragment)}, ip.SrcIP, ip.DstIP
				case *layers.IPv6:
					h, from, to = [3]int{int(ip.HopLimit), int(ip.TrafficClass), 0}, ip.SrcIP, ip.DstIP
				default:
					continue
				}
				if n++; n == 1 {
					outer, src, dst = h, from, to
				} else {
					inner, innerDst = h, to
				}
			}
			if n != 2 || !dst.Equal(w.outers[i].AsSlice()) || !src.Equal(w.own.AsSlice()) || !innerDst.Equal(w.inner.AsSlice()) {
				t.Fatalf("%s: %d headers, from %v to %v, inside to %v", w.name, n, src, dst, innerDst)
			}
			wantOuter, wantInner := [3]int{64, tos, int(layers.IPv4DontFragment)}, [3]int{32, tos, int(layers.IPv4DontFragment)}
			if w.v6 {
				wantOuter, wantInner = [3]int{64, tos & 3, 0}, [3]int{32, tos, 0}
			}
			if outer != wantOuter || inner != wantInner {
				t.Errorf("%s: TTL, TOS, DF: outside %v, want %v; inside %v, want %v", w.name, outer, wantOuter, inner, wantInner)
			}
		}
	}
}

// mtu waits until a socket has learned the path's MTU from an ICMP error, sending meanwhile what is too big, n datagrams as one.
func (w way) mtu(t testing.TB, c net.Conn, want, n int) {
	t.Helper()
	size, got := want-w.header-8+1, 0
	if n > 1 {
		option(t, c, func(fd int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_SEGMENT, size) })
	}
	if !w.v6 { // DF, which the kernel leaves out for several as one otherwise
		option(t, c, func(fd int) error {
			return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO)
		})
	}
	for end := time.Now().Add(5 * time.Second); got != want && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		c.Write(make([]byte, n*size)) // at once, or when the error came: message too long
		option(t, c, func(fd int) (err error) {
			if w.v6 {
				got, err = unix.GetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU)
			} else {
				got, err = unix.GetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU)
			}
			return err
		})
	}
	if got != want {
		t.Errorf("%s: who sent %d datagrams as one believes in an MTU of %d, want %d", w.name, n, got, want)
	}
}

// forget has the target forget the path's MTU.
func (l *lab) forget(w way) {
	if w.v6 {
		l.target.Sysctl("net/ipv6/route/flush", "1")
	} else {
		l.target.Sysctl("net/ipv4/route/flush", "1")
	}
}

// What is too big for the way to the real server gives the sender an ICMP error, or comes in parts.
func TestTunnelTooBig(t *testing.T) {
	l := newTunnelLab(t)
	at := listen(l.rs[0], "eth0")
	for _, w := range ways {
		for _, link := range []int{1500, 1400} {
			must(t, netlink.LinkSetMTU(l.director.Link("rs0"), link))
			l.lead(t, w, 0)
			for _, n := range []int{1, 3} {
				w.mtu(t, connect(l.target, w.inner), link-w.header, n)
				l.forget(w)
			}
		}
		must(t, netlink.LinkSetMTU(l.director.Link("rs0"), 1500))
		l.lead(t, w, 0)
		if w.v6 {
			continue
		}
		whole := connect(l.target, w.inner)
		option(t, whole, func(fd int) error {
			return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_INTERFACE)
		})
		wrapped(t, at, w)
		_, err := whole.Write(make([]byte, 1472))
		must(t, err)
		if got := wrapped(t, at, w); len(got) != 2 {
			t.Errorf("%d IPIP packets came of one that is too big and may be cut up", len(got))
		}
	}
}

// The devices have the MTU of the way to the real servers, whichever it is when they are looked after.
func TestTunnelFitsTheWay(t *testing.T) {
	l := newTunnelLab(t)
	for _, w := range ways {
		l.lead(t, w, 0)
		for _, link := range []int{1400, 1500} {
			must(t, netlink.LinkSetMTU(l.director.Link("rs0"), link))
			must(t, l.t.EnsureTunnel(w.v6))
			if got := l.director.Link(tunnelName(w.v6)).Attrs().MTU; got != link-w.header {
				t.Errorf("%s: the way has an MTU of %d, and the tunnel device %d", w.name, link, got)
			}
		}
	}
}

// wrap is a datagram for the target within the outer header that the kernel adds.
func (w way) wrap(t testing.TB) []byte {
	t.Helper()
	udp := &layers.UDP{SrcPort: 9, DstPort: 4500}
	var ip gopacket.SerializableLayer
	if w.v6 {
		h := &layers.IPv6{Version: 6, HopLimit: 9, NextHeader: layers.IPProtocolUDP, SrcIP: w.inner.AsSlice(), DstIP: w.target.AsSlice()}
		must(t, udp.SetNetworkLayerForChecksum(h))
		ip = h
	} else {
		h := &layers.IPv4{Version: 4, TTL: 9, Protocol: layers.IPProtocolUDP, SrcIP: w.inner.AsSlice(), DstIP: w.target.AsSlice()}
		must(t, udp.SetNetworkLayerForChecksum(h))
		ip = h
	}
	b := gopacket.NewSerializeBuffer()
	must(t, gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ip, udp, gopacket.Payload("in")))
	return b.Bytes()
}

// Nobody has the director forward a packet by wrapping it.
func TestTunnelTakesNothingIn(t *testing.T) {
	l := newTunnelLab(t)
	for _, w := range ways {
		at := catch(l.target, w.target)
		came := func() (n int) {
			var c net.Conn
			l.rs[0].Do(func() {
				var err error
				c, err = net.Dial(w.proto, w.own.String())
				must(t, err)
			})
			defer c.Close()
			_, err := c.Write(w.wrap(t))
			must(t, err)
			must(t, at.SetReadDeadline(time.Now().Add(300*time.Millisecond)))
			if _, err := at.Read(make([]byte, 9)); err == nil {
				n++
			}
			return n
		}
		came() // neighbours are found
		if came() > 0 {
			t.Errorf("%s: a wrapped packet was forwarded", w.name)
		}
		device := l.director.Link(tunnelName(w.v6))
		must(t, netlink.QdiscDel(&netlink.Ingress{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: device.Attrs().Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_INGRESS}}))
		if came() == 0 {
			t.Errorf("%s: without the guard nothing is forwarded either: the test shows nothing", w.name)
		}
		must(t, l.t.EnsureTunnel(w.v6))
		if came() > 0 {
			t.Errorf("%s: the guard was not put up again", w.name)
		}
	}
}

// A device of ours is not taken from somebody else, and there is one in external mode only.
func TestTunnelRefuses(t *testing.T) {
	l := newTunnelLab(t)
	must(t, l.t.Uninstall(t.Context()))
	attrs := netlink.NewLinkAttrs()
	attrs.Name = Tunnel4
	must(t, netlink.LinkAdd(&netlink.Dummy{LinkAttrs: attrs}))
	if err := l.t.EnsureTunnel(false); err == nil || !strings.Contains(err.Error(), "no such tunnel device") {
		t.Errorf("with a device of that name: %v", err)
	}
	attrs.Name = "other"
	must(t, netlink.LinkAdd(&netlink.Ip6tnl{LinkAttrs: attrs, FlowBased: true}))
	if err := l.t.EnsureTunnel(true); err == nil || errors.Is(err, plane.ErrUnsupported) || !strings.Contains(err.Error(), "another ip6tnl device") {
		t.Errorf("with another device in external mode: %v", err)
	}
}

// Without the kernel's modules the error says which.
func TestTunnelUnsupported(t *testing.T) {
	l := newLab(t)
	for _, v6 := range []bool{false, true} {
		err := l.t.EnsureTunnel(v6)
		if err == nil {
			t.Skip("this kernel has tunnel devices")
		}
		if !errors.Is(err, plane.ErrUnsupported) || !strings.Contains(err.Error(), "module ip") {
			t.Errorf("%v", err)
		}
	}
}
