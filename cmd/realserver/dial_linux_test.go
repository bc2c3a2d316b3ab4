package main

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tunneldirector/integration/spaces"
)

// TestLeavesFromNoVIP: a default route may have the VIP as its source, as terminators need it that send on their own account.
func TestLeavesFromNoVIP(t *testing.T) {
	s := spaces.New(t, 2)
	spaces.Wire(s[0], "eth0", s[1], "far0")
	spaces.Wire(s[0], "eth1", s[1], "far1")
	s[0].Give("lo", "192.0.2.10/32", "2001:db8::10/128")
	host := func(address, link string) { s[0].Give(link, address) }
	source := func(to string) string {
		t.Helper()
		c := newCaller(Config{RealServers: []RealServer{{VIPs: addresses10(), Interface: "eth0"}}}, nil)
		a, err := c.source(netip.MustParseAddrPort(to))
		if err != nil {
			return err.Error()
		}
		return a.String()
	}
	by := func(prefix, src string) {
		t.Helper()
		s[0].Do(func() {
			_, to, err := net.ParseCIDR(prefix)
			if err == nil {
				err = netlink.RouteReplace(&netlink.Route{Dst: to, LinkIndex: s[0].Link("eth0").Attrs().Index, Src: net.ParseIP(src), Scope: unix.RT_SCOPE_LINK})
			}
			if err != nil {
				t.Fatal(err)
			}
		})
	}
	by("203.0.113.0/24", "192.0.2.10")
	by("2001:db8:f::/64", "2001:db8::10")
	const director, director6 = "203.0.113.2:7460", "[2001:db8:f::2]:7460"
	for _, to := range []string{director, director6} {
		if got := source(to); !strings.Contains(got, "this host has no other address to leave from") || !strings.Contains(got, "eth0") {
			t.Errorf("without an address of its own, to %s: %s", to, got)
		}
	}
	steps := []struct{ address, link, to, want string }{
		{"198.51.100.99/24", "eth1", director, "198.51.100.99"},
		{"198.51.100.11/24", "eth0", director, "198.51.100.11"},
		{"2001:db8:1::11/64", "eth0", director6, "2001:db8:1::11"},
		{"203.0.113.11/24", "eth0", director, "203.0.113.11"}, // with it comes a route that has it for its source
	}
	for _, st := range steps {
		host(st.address, st.link)
		by("203.0.113.0/24", "192.0.2.10")
		if got := source(st.to); got != st.want {
			t.Errorf("with %s on %s: from %s, want %s", st.address, st.link, got, st.want)
		}
	}
	if got := seen(t, s[0], s[1]); got != "203.0.113.11" {
		t.Errorf("the director is dialled from %s", got)
	}
	by("203.0.113.0/24", "203.0.113.11")
	if got := source(director); got != "invalid IP" {
		t.Errorf("where the route's source is no VIP the kernel chooses; got %s", got)
	}
}

// seen is the address that a director in one namespace is dialled from in another.
func seen(t *testing.T, from, at spaces.Space) string {
	t.Helper()
	at.Give("far0", "203.0.113.2/24")
	var l net.Listener
	var err error
	at.Do(func() { l, err = net.Listen("tcp", "203.0.113.2:7460") })
	if err != nil {
		t.Fatal(err)
	}
	who := make(chan string, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			who <- err.Error()
			return
		}
		who <- c.RemoteAddr().(*net.TCPAddr).IP.String()
		c.Close() // it is no director
	}()
	from.Do(func() {
		c := newCaller(Config{RealServers: []RealServer{{VIPs: addresses10(), Interface: "eth0"}}}, &tls.Config{ServerName: "d1"})
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		_, err = c.dial(ctx, "203.0.113.2:7460")
	})
	if err == nil {
		t.Error("what is no director was taken for one")
	}
	l.Close() // where nobody came
	return <-who
}

func addresses10() []netip.Addr {
	return []netip.Addr{netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("2001:db8::10")}
}
