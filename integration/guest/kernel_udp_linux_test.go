package guest

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"tunneldirector/integration/lab"
)

// datagramPort is where the tests without a tunnel's software send UDP.
const datagramPort = 5000

// datagrams is a kind of tunnel that is none.
var datagrams = kind{"udp", []string{fmt.Sprintf("udp/%d", datagramPort)}, func(end) error { return nil }}

// An inbox keeps what comes to a UDP port, and answers nothing.
type inbox struct {
	conn *net.UDPConn

	mu  sync.Mutex // guards got
	got []letter
}

type letter struct {
	from netip.AddrPort
	data []byte
}

// receive opens an inbox at an address and port of a machine, for the test's life.
func (r *rig) receive(ns *lab.Namespace, at netip.AddrPort) *inbox {
	r.Helper()
	b := &inbox{conn: r.socket(ns, at)}
	go func() {
		buf := make([]byte, 65536)
		for {
			n, from, err := b.conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return // closed
			}
			b.mu.Lock()
			b.got = append(b.got, letter{from, slices.Clone(buf[:n])})
			b.mu.Unlock()
		}
	}()
	return b
}

func (b *inbox) letters() []letter {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.got)
}

// inboxes are one at each real server, at a VIP.
func (r *rig) inboxes(vip netip.Addr) map[string]*inbox {
	r.Helper()
	all := map[string]*inbox{}
	for _, rs := range r.RealServers {
		all[rs.Name] = r.receive(rs.NS, netip.AddrPortFrom(vip, datagramPort))
	}
	return all
}

// socket opens a UDP socket on a machine, for the test's life.
func (r *rig) socket(ns *lab.Namespace, at netip.AddrPort) *net.UDPConn {
	r.Helper()
	var c *net.UDPConn
	r.must("listen at "+at.String(), ns.Run(func() error {
		p, err := new(net.ListenConfig).ListenPacket(context.Background(), "udp", at.String())
		if err == nil {
			c = p.(*net.UDPConn)
		}
		return err
	}))
	r.Cleanup(func() { c.Close() })
	return c
}

// discover says how a socket sets DF and heeds path MTUs (ip(7), IP_MTU_DISCOVER).
func (r *rig) discover(c *net.UDPConn, how int) {
	r.Helper()
	raw, err := c.SyscallConn()
	r.must("reach the socket", err)
	level, option := unix.SOL_IP, unix.IP_MTU_DISCOVER
	if c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Is6() {
		level, option = unix.SOL_IPV6, unix.IPV6_MTU_DISCOVER
	}
	var set error
	r.must("reach the socket", raw.Control(func(fd uintptr) { set = unix.SetsockoptInt(int(fd), level, option, how) }))
	r.must("set the path MTU discovery", set)
}

// send sends count datagrams of a size, each told by its first byte.
func (r *rig) send(c *net.UDPConn, to netip.AddrPort, count, size int) {
	r.Helper()
	for i := range count {
		_, err := c.WriteToUDPAddrPort(slices.Repeat([]byte{byte(i)}, size), to)
		r.must("send to "+to.String(), err)
	}
}

// whole insists that of a site's datagrams all came to one inbox as they were sent.
func (r *rig) whole(all map[string]*inbox, from *lab.Site, at string, count, size int) {
	r.Helper()
	good := func(name string) (n int) {
		for _, l := range all[name].letters() {
			if l.from.Addr() == from.Endpoint && len(l.data) == size && slices.Equal(l.data, slices.Repeat(l.data[:1], size)) {
				n++
			}
		}
		return n
	}
	r.until(30*time.Second, "datagrams of "+from.Name, func() error {
		if n := good(at); n < count {
			return fmt.Errorf("%d of %d datagrams of %d bytes came whole to %s", n, count, size, at)
		}
		return nil
	})
	for name := range all {
		if n := good(name); name != at && n > 0 || n > count {
			r.Errorf("%s got %d datagrams of %s, which is at %s", name, n, from.Name, at)
		}
	}
}
