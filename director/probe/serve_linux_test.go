package probe

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tunneldirector/director/agent"
	"tunneldirector/integration/spaces"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// take removes an address.
func take(s spaces.Space, ifname, prefix string) {
	s.T.Helper()
	s.Do(func() {
		l, err := netlink.LinkByName(ifname)
		must(s.T, err)
		a, err := netlink.ParseAddr(prefix)
		must(s.T, err)
		must(s.T, netlink.AddrDel(l, a))
	})
}

// serveUDP answers each datagram by answer; "" keeps silent.
func serveUDP(s spaces.Space, addr, answer string) net.PacketConn {
	s.T.Helper()
	var c net.PacketConn
	s.Do(func() {
		var err error
		c, err = net.ListenPacket("udp", addr)
		must(s.T, err)
	})
	s.T.Cleanup(func() { c.Close() })
	go func() {
		for buf := make([]byte, 1500); ; {
			_, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			if answer != "" {
				_, _ = c.WriteTo([]byte(answer), from)
			}
		}
	}()
	return c
}

// serveAgent answers probes.
func serveAgent(s spaces.Space, at netip.AddrPort) net.PacketConn {
	s.T.Helper()
	var c net.PacketConn
	s.Do(func() {
		var err error
		c, err = net.ListenPacket("udp", at.String())
		must(s.T, err)
	})
	s.T.Cleanup(func() { c.Close() })
	go func() {
		for buf := make([]byte, 1500); ; {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			if nonce, name, err := agent.ParseProbe(buf[:n]); err == nil {
				_, _ = c.WriteTo(agent.Answer{Nonce: nonce, Health: agent.HealthWorking, RealServer: name}.Append(nil), from)
			}
		}
	}()
	return c
}

func serveTCP(s spaces.Space, addr string) net.Listener {
	s.T.Helper()
	var l net.Listener
	s.Do(func() {
		var err error
		l, err = net.Listen("tcp", addr)
		must(s.T, err)
	})
	s.T.Cleanup(func() { l.Close() })
	return l
}

// cpuTime is what this process has used.
func cpuTime(t testing.TB) time.Duration {
	t.Helper()
	var u unix.Rusage
	must(t, unix.Getrusage(unix.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
