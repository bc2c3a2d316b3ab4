package host

import (
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// segment is what a connection through the real server agrees on, as the one who is called sees it.
func (s site) segment(t *testing.T, to string) (size int) {
	t.Helper()
	var at net.Listener
	s.inner.in(func(*view) (err error) {
		at, err = net.Listen("tcp", to)
		return err
	})
	defer at.Close()
	must(t, at.(*net.TCPListener).SetDeadline(time.Now().Add(5*time.Second)))
	s.router.in(func(*view) error {
		c, err := net.DialTimeout("tcp", to, 5*time.Second)
		if err != nil {
			return err
		}
		return c.Close()
	})
	c, err := at.Accept()
	must(t, err)
	defer c.Close()
	raw, err := c.(*net.TCPConn).SyscallConn()
	must(t, err)
	must(t, raw.Control(func(fd uintptr) { size, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG) }))
	must(t, err)
	return size
}

func TestClamp(t *testing.T) {
	s := newSite(t)
	s.rs.ip("address add 2001:db8:9::10/64 dev eth1\n")
	s.inner.ip("address add 2001:db8:9::1/64 dev rs1\nroute add default via 10.9.0.10\nroute add default via 2001:db8:9::10\n")
	s.router.ip("route add 10.9.0.0/24 via 192.0.2.10\nroute add 2001:db8:9::/64 via 2001:db8::10\n")
	in := s.instance()
	_, err := s.host(t, in).Apply(t.Context())
	must(t, err)
	if a, b := s.segment(t, "10.9.0.1:7"), s.segment(t, "[2001:db8:9::1]:7"); a < 1400 || b < 1380 {
		t.Fatalf("without a clamp: %d and %d", a, b)
	}
	in.MSS = 1200
	h := s.host(t, in)
	_, err = h.Apply(t.Context())
	must(t, err)
	if a, b := s.segment(t, "10.9.0.1:7"), s.segment(t, "[2001:db8:9::1]:7"); a > 1200 || a < 1180 || b > 1180 || b < 1160 {
		t.Errorf("connections agreed on segments of %d (IPv4) and %d (IPv6), want 1200 and 1180 less options", a, b)
	}
	second := in
	second.Name, second.MSS = "rs2", 1100
	changes, err := s.host(t, in, second).Apply(t.Context())
	if err != nil || len(changes) != 1 || changes[0].To != "1100" {
		t.Errorf("with a second real server: %v, %v", changes, err)
	}
	s.rs.nft("flush chain inet tunneldirector-agent forward")
	changes, err = s.host(t, in, second).Apply(t.Context())
	if err != nil || len(changes) != 1 {
		t.Errorf("somebody flushed the chain: %v, %v", changes, err)
	}
	_, err = h.Revert(t.Context())
	must(t, err)
	if out := strings.Join(s.rs.snapshot(), "\n"); strings.Contains(out, Table) {
		t.Error("the table is left")
	}
}
