package guest

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tunneldirector/integration/lab"
)

// TestFragments: datagrams and ESP packets that are larger than the path arrive whole at the real server of the tunnel.
func TestFragments(t *testing.T) {
	onPlanes(t, func(t *testing.T, plane string) {
		r := newRig(t, setup{plane: plane, lab: lab.Options{Sites: 6, RealServers: 2, IPv6: true}, service: serviceFor("dr", datagrams, esp)})
		r.serve()
		t.Run("udp", func(t *testing.T) { r.sub(t).largeDatagrams(oneSubnet(datagrams, r.Sites[:4]...)) })
		t.Run("esp", func(t *testing.T) { r.sub(t).largeESP(oneSubnet(esp, r.Sites[4])[0]) })
	})
}

func (r *rig) largeDatagrams(sites []*lab.Site) {
	const count, size = 5, 3000
	r.must("push", r.d.Push(r.ctx, sites...))
	at := map[netip.Addr]map[string]*inbox{}
	for _, vip := range r.VIPs {
		at[vip] = r.inboxes(vip)
	}
	for _, s := range sites {
		since := r.w.mark()
		r.send(r.socket(s.NS, netip.AddrPortFrom(s.Endpoint, 40000)), netip.AddrPortFrom(s.VIP, datagramPort), count, size)
		rs := r.placed(s)
		r.whole(at[s.VIP], s, rs.Name, count, size)
		r.until(30*time.Second, "see the fragments of "+s.Name, func() error { // captures are read a little later
			if parts := r.w.met(s, since)[rs.Name].Kinds["part"]; parts < 2*count {
				return fmt.Errorf("%s was given %d fragments of %d datagrams: they were not fragmented", rs.Name, parts, count)
			}
			return nil
		})
	}
}

// largeESP sends what just fits the wire into a tunnel, without DF, so that ESP around it does not fit.
func (r *rig) largeESP(s *lab.Site) {
	const count, size = 5, 1460
	r.bring(esp, s)
	since := r.w.mark()
	to := netip.AddrPortFrom(r.target(s.Inside[0]), datagramPort)
	got := r.receive(r.Target.Namespace, to)
	c := r.socket(s.NS, netip.AddrPortFrom(s.Inside[0], 40000))
	r.discover(c, unix.IP_PMTUDISC_INTERFACE) // the wire's MTU, not what is left inside of ESP; no DF
	r.send(c, to, count, size)
	rs := r.placed(s)
	r.until(30*time.Second, "datagrams through "+s.Name, func() error {
		if n := len(got.letters()); n != count {
			return fmt.Errorf("%d of %d arrived", n, count)
		}
		return nil
	})
	r.until(30*time.Second, "see the fragments of "+s.Name, func() error {
		all := r.w.met(s, since)
		if parts := all[rs.Name].Kinds["part"]; len(all) != 1 || parts < 2*count {
			return fmt.Errorf("it is at %s; real servers were given %+v, want %d fragments there and nothing elsewhere", rs.Name, all, 2*count)
		}
		return nil
	})
}
