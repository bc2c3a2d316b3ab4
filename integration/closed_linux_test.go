package integration

import (
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"tunneldirector/integration/lab"
)

// TestFailClosed: without daemon and data plane the VIP does not answer, nothing is routed to it, and no plaintext for a
// covering prefix leaves by the default route, though the director's machine routes.
func TestFailClosed(t *testing.T) {
	t.Parallel()
	r := newRig(t, lab.Options{Sites: 2, IPv6: true}, "")
	r.must("stop", r.d.Stop())
	if lost := r.ping(r.Sites[0], 5); lost != 0 {
		t.Errorf("without a daemon %d of 10 packets were lost", lost)
	}
	r.detach()
	site, elsewhere := r.Sites[0], netip.MustParseAddr("198.18.0.1")
	r.must("route", r.Target.Route(netip.PrefixFrom(elsewhere, 32), r.Director.Inner.Addrs[0], "inner"))
	out, err := r.Router.Capture(r.Router.Outer)
	r.must("capture", err)
	defer out.Close()
	rs, err := r.RealServers[0].NS.Capture(r.RealServers[0].DR)
	r.must("capture", err)
	defer rs.Close()

	for _, s := range r.Sites {
		for _, port := range []uint16{lab.WireGuardPort, 9} {
			r.must("send", s.NS.SendUDP(netip.AddrPortFrom(s.Endpoint, 40000), netip.AddrPortFrom(s.VIP, port), 3))
		}
		if _, err := r.TransferTCP(soon(t), s.NS, s.Endpoint, s.VIP, 1); err == nil {
			t.Errorf("TCP to %s was answered", s.VIP)
		}
	}
	covered := append([]netip.Addr{netip.MustParseAddr("100.64.200.1"), netip.MustParseAddr("2001:db8:64:ff::1")}, site.Inside...)
	for _, dst := range append(covered, elsewhere) {
		family := 0
		if dst.Is6() {
			family = 1
		}
		from := netip.AddrPortFrom(r.Target.Inner.Addrs[family], 40000)
		r.must("send", r.Target.SendUDP(from, netip.AddrPortFrom(dst, 9), 3))
	}
	// What must get through shows that the wires and the capture work: pings to the VIP, and what is in no cover.
	for _, s := range r.Sites {
		echoes, err := r.Ping(r.ctx, s.NS, s.Endpoint, s.VIP, 10*time.Millisecond, 3)
		if err != nil || lab.CountLost(echoes) > 0 {
			t.Errorf("ping %s: %d of 3 lost: %v", s.VIP, lab.CountLost(echoes), err)
		}
	}
	isDirector := func(a netip.Addr) bool {
		return slices.Contains(r.Director.Sites.Addrs, a) || slices.Contains(r.VIPs, a)
	}
	r.until(10*time.Second, "wait for what no cover holds", func() error { // a capture may be behind
		let := 0
		for _, p := range out.Seen() {
			if p.Dst == elsewhere {
				let++
			}
		}
		if let != 3 {
			return fmt.Errorf("%d of 3 packets were routed", let)
		}
		return nil
	})
	for _, p := range out.Seen() {
		echo := p.Proto == 1 && p.Type == 0 || p.Proto == 58 && p.Type == 129
		switch {
		case isDirector(p.Src) && !echo:
			t.Errorf("the director answered: %+v", p)
		case slices.ContainsFunc(lab.Covers, func(c netip.Prefix) bool { return c.Contains(p.Dst) }):
			t.Errorf("plaintext left by the default route: %+v", p)
		}
	}
	for _, p := range rs.Seen() {
		if slices.Contains(r.VIPs, p.Dst) {
			t.Errorf("a packet to the VIP reached a real server: %+v", p)
		}
	}
}

// detach takes the programs off the director's interfaces, as somebody would by hand.
func (r *rig) detach() {
	r.Helper()
	err := filepath.WalkDir(r.Director.BPFDir(), func(path string, e fs.DirEntry, err error) error {
		if err == nil && strings.HasPrefix(e.Name(), "if_") {
			err = os.Remove(path)
		}
		return err
	})
	r.must("detach the data plane", err)
	// The kernel lets go of a link at its leisure.
	r.until(20*time.Second, "wait for the programs to be gone", func() error {
		return r.Director.Run(func() error {
			links, err := netlink.LinkList()
			for _, l := range links {
				if x := l.Attrs().Xdp; err == nil && x != nil && x.Attached {
					err = fmt.Errorf("%s has a program", l.Attrs().Name)
				}
			}
			return err
		})
	})
}
