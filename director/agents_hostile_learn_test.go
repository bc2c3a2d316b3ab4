package director

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"tunneldirector/affinity"
	"tunneldirector/director/agent"
	"tunneldirector/director/observe"
)

// What is seen takes nothing away from what was announced, nor from what is up elsewhere.

// from is the real server that gets what comes from an address.
func (w *world) from(addr string) string {
	w.t.Helper()
	tun := site(1)
	tun.Endpoints = []affinity.Endpoint{netip.AddrPortFrom(netip.MustParseAddr(addr), 0)}
	in, _ := w.ways(tun)
	return in
}

// changeService puts the service of base again, changed.
func (w *world) changeService(f func(*affinity.Service)) {
	w.t.Helper()
	s, _ := w.d.Table().Service("ipsec")
	next := *s
	f(&next)
	w.must(affinity.PutService{By: operator, Service: &next})
}

func learns(s *affinity.Service) { s.Learn = true }

// The tunnel is up at two endpoints: one roamed, and the other is established anew where it was announced.
func TestRekeyAtHomeKeepsWhatRoamed(t *testing.T) {
	inWorld(t, func(w *world) {
		w.base(2)
		vip := netip.MustParseAddr("2001:db8:ffff::10")
		w.changeService(func(s *affinity.Service) { s.VIPs = append(slices.Clone(s.VIPs), vip) })
		tun := site(1)
		tun.Endpoints = append(tun.Endpoints, netip.MustParseAddrPort("[2001:db8:1::5]:0"))
		w.pinTo(tun, "rs1")
		home := upAt(tun, "by IPv6", "[2001:db8:1::5]:0")
		home.Local = vip
		one := w.agentOf("rs1", upAt(tun, "by IPv4", tun.Endpoints[0].String()), home)
		one.change([]agent.Tunnel{upAt(tun, "by IPv4", "203.0.113.99:0")})
		if in := w.from("203.0.113.99"); in != "rs1" {
			t.Fatalf("not followed: it goes to %q", in)
		}
		time.Sleep(time.Minute)
		home.Since = time.Now()
		one.change([]agent.Tunnel{home})
		if in := w.from("203.0.113.99"); in != "rs1" {
			t.Errorf("what is up where it roamed to goes to %q since the other endpoint was established anew", in)
		}
	})
}

// An agent of another service says that it has the tunnel, where that was announced.
func TestForeignAgentSendsNothingHome(t *testing.T) {
	inWorld(t, func(w *world) {
		w.base(2)
		w.must(affinity.PutService{By: operator, Service: &affinity.Service{Name: "other", VIPs: []netip.Addr{netip.MustParseAddr("192.0.2.77")}, Match: []affinity.Match{{Proto: 50}}}},
			affinity.PutRealServer{By: operator, RealServer: &affinity.RealServer{Name: "foreign", Addrs: []netip.Addr{netip.MustParseAddr("198.51.100.66")}, Services: []string{"other"}, Weight: 100}})
		w.verdict("foreign", true)
		w.pinTo(site(1), "rs1")
		one := w.agentOf("rs1", up(site(1)))
		one.change([]agent.Tunnel{upAt(site(1), "peer site-0001", "203.0.113.99:0")})
		w.agentOf("foreign", upAt(site(1), "x", site(1).Endpoints[0].String()))
		w.settle()
		if in := w.from("203.0.113.99"); in != "rs1" {
			t.Errorf("by the word of another service's agent the roamed tunnel goes to %q", in)
		}
	})
}

// One address was announced, and several peers behind it roam; those that are up are not forgotten for one more.
func TestLiveRoamedEndpointsAreKept(t *testing.T) {
	inWorld(t, func(w *world) {
		w.base(2)
		tun := site(1)
		tun.Subnets = nil
		w.pinTo(tun, "rs1")
		var home []agent.Tunnel
		for i := range affinity.MaxRoamed + 1 {
			home = append(home, upAt(tun, fmt.Sprint("peer ", i), fmt.Sprintf("203.0.0.1:%d", 4500+i)))
		}
		one := w.agentOf("rs1", home...)
		for i := range home {
			one.change([]agent.Tunnel{upAt(tun, home[i].Peer, fmt.Sprintf("203.0.113.%d:4500", i))})
		}
		for i := range affinity.MaxRoamed {
			if in := w.from(fmt.Sprint("203.0.113.", i)); in != "rs1" {
				t.Errorf("peer %d of %d goes to %q where it roamed to", i, len(home), in)
			}
		}
	})
}

// Both changes are told at once, as one news.
func TestRoamedTwiceBeforeItWasHeard(t *testing.T) {
	inWorld(t, func(w *world) {
		w.base(2)
		tun := site(1)
		tun.Subnets = nil // nothing else tells who it is
		w.pinTo(tun, "rs1")
		one := w.agentOf("rs1", up(tun))
		one.change([]agent.Tunnel{upAt(tun, "peer site-0001", "203.0.113.98:0"), upAt(tun, "peer site-0001", "203.0.113.99:0")})
		if in := w.from("203.0.113.99"); in != "rs1" {
			t.Errorf("it roamed twice, and goes to %q", in)
		}
	})
}

func TestRoamedWhileTheDiskRefusedIsFollowedLater(t *testing.T) {
	inWorld(t, func(w *world) {
		w.base(2)
		w.pinTo(site(1), "rs1")
		one := w.agentOf("rs1", up(site(1)))
		w.disk.refuse(errFull)
		one.change([]agent.Tunnel{upAt(site(1), "peer site-0001", "203.0.113.99:0")})
		time.Sleep(time.Second)
		w.disk.refuse(nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		if in := w.from("203.0.113.99"); in != "rs1" {
			t.Errorf("a minute after the disk works again the roamed tunnel goes to %q", in)
		}
	})
}

// The director has begun anew, and no agent has told it anything yet.
func TestLearnedTunnelThatIsAnnouncedStays(t *testing.T) {
	inWorld(t, func(w *world) {
		w.base(2)
		w.changeService(learns)
		for i := range 5 {
			w.pinTo(site(100+i), "rs2") // a new one would get rs1
		}
		w.agentOf("rs2", up(site(8)))
		w.at(site(8), "rs2")
		w.stop()
		w.agents = observe.NewBook(nil)
		w.start()
		w.must(put(site(8)))
		w.at(site(8), "rs2")
	})
}

// Two peers have one name, at two real servers.
func TestLearnedTunnelOfThatNameElsewhereStays(t *testing.T) {
	inWorld(t, func(w *world) {
		w.base(2)
		w.changeService(learns)
		w.agentOf("rs1", up(site(8)))
		w.at(site(8), "rs1")
		w.agentOf("rs2", upAt(site(9), "peer site-0008", "203.0.113.77:0"))
		w.at(site(8), "rs1")
	})
}

func TestAnnouncedSubnetLeavesTheLearnedEndpoint(t *testing.T) {
	inWorld(t, func(w *world) {
		w.base(2)
		w.changeService(learns)
		w.agentOf("rs1", up(site(8)))
		w.at(site(8), "rs1")
		other := site(9)
		other.Subnets = site(8).Subnets
		w.must(put(other))
		if in := w.from(site(8).Endpoints[0].Addr().String()); in != "rs1" {
			t.Errorf("since its subnet was announced the learned tunnel goes to %q", in)
		}
	})
}

func TestNothingIsLearnedInsideAnAnnouncedSubnet(t *testing.T) {
	inWorld(t, func(w *world) {
		w.base(2)
		w.changeService(learns)
		tun := site(1)
		tun.Subnets = []netip.Prefix{netip.MustParsePrefix("100.64.8.0/24")}
		w.pinTo(tun, "rs1")
		thief := site(9)
		thief.Subnets = []netip.Prefix{netip.MustParsePrefix("100.64.8.7/32")}
		w.agentOf("rs2", up(thief))
		w.settle()
		if in, out := w.ways(thief); in != "rs2" || out != "rs1" {
			t.Errorf("who said to have a part of an announced subnet goes to %q, and the part's packets to %q", in, out)
		}
	})
}
