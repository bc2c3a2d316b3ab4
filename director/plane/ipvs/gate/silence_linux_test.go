package gate

import (
	"errors"
	"net"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// IPVS answers unknown endpoints of a service; the node's own addresses may.
func TestSilentToUnknown(t *testing.T) {
	l := newLab(t)
	l.standIn = standIn(t)
	l.dir.Sysctl("net/ipv4/icmp_ratelimit", "0")
	l.dir.Sysctl("net/ipv6/icmp/ratelimit", "0")
	refused := func(dst string, tries int) (refused bool) {
		l.site.Do(func() {
			c, err := net.Dial("udp", net.JoinHostPort(dst, "500"))
			must(t, err)
			defer c.Close()
			for ; tries > 0 && !refused; tries-- {
				_, err = c.Write([]byte("?"))
				must(t, err)
				must(t, c.SetReadDeadline(time.Now().Add(200*time.Millisecond)))
				_, err = c.Read(make([]byte, 1))
				refused = errors.Is(err, unix.ECONNREFUSED)
			}
		})
		return refused
	}
	l.site.Route(vip4+"/32", "192.0.2.1")
	l.site.Route(vip6+"/128", "2001:db8::1")
	if !refused(vip4, 20) || !refused(vip6, 20) {
		t.Fatal("without the gate nobody refuses: this test cannot fail")
	}
	_, err := l.gate.Set(t.Context(), wanted)
	must(t, err)
	if refused(vip4, 1) || refused(vip6, 1) {
		t.Error("the site was told")
	}
	if n := l.counts(t)[counterUnknown]; n != 2 {
		t.Errorf("counted %d unknown endpoints, want 2", n)
	}
	if !refused("192.0.2.1", 20) || !refused("2001:db8::1", 20) {
		t.Error("own addresses must not be silent")
	}
}

// A target host and the real server on one wire: the kernel would tell the host to send to the real server itself.
func TestNoRedirects(t *testing.T) {
	l := newLab(t)
	l.standIn = standIn(t)
	l.dir.Route("100.65.0.0/16", "10.1.0.99")
	// In IPv6 only a link-local router is told of.
	l.dir.Do(func() {
		in0, err := netlink.LinkByName("in0")
		must(t, err)
		dst, err := netlink.ParseIPNet("2001:db8:6::/48")
		must(t, err)
		must(t, netlink.RouteAdd(&netlink.Route{Dst: dst, LinkIndex: in0.Attrs().Index, Gw: net.ParseIP("fe80::99")}))
	})
	w := wanted
	w.RealServers = []string{"in0"}
	redirects := func(tries int) map[byte]bool { // by IP version
		heard := map[byte]bool{}
		l.target.Do(func() {
			fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM, int(swap(unix.ETH_P_ALL)))
			must(t, err)
			defer unix.Close(fd)
			must(t, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 200_000}))
			for ; tries > 0 && len(heard) < 2; tries-- {
				send(l.target, "eth0", l.dir, "in0", icmp("2001:db8:a::2", "2001:db8:6::1", 128), icmp("10.1.0.2", "100.65.0.1", 8))
				for b := make([]byte, 1600); err == nil; {
					if _, _, err = unix.Recvfrom(fd, b, 0); err == nil && (b[0]>>4 == 6 && b[6] == unix.IPPROTO_ICMPV6 && b[40] == 137 ||
						b[0]>>4 == 4 && b[9] == unix.IPPROTO_ICMP && b[20] == 5) {
						heard[b[0]>>4] = true
					}
				}
				err = nil
			}
		})
		return heard
	}
	if heard := redirects(20); len(heard) != 2 {
		t.Fatalf("without the gate redirects by IP version %v, want both: this test cannot fail", heard)
	}
	_, err := l.gate.Set(t.Context(), w)
	must(t, err)
	l.dir.Sysctl("net/ipv6/icmp/ratelimit", "0")
	if heard := redirects(2); len(heard) != 0 {
		t.Errorf("the target was redirected: %v", heard)
	}
	if n := l.counts(t)[counterRedirect]; n == 0 {
		t.Error("no redirect was counted")
	}
}
