package observe

import (
	"net/netip"
	"testing"

	"tunneldirector/affinity"
	"tunneldirector/director/agent"
)

// A site that moves twice before anybody takes the news was where it was known to be.
func TestMovesTwiceInOneTurn(t *testing.T) {
	at := func(port uint16) agent.Tunnel {
		x := tunnel(1)
		x.Endpoint = netip.AddrPortFrom(x.Endpoint.Addr(), port)
		return x
	}
	for _, c := range []struct {
		name   string
		known  bool // the first place was news before
		ports  []uint16
		before uint16 // 0: nowhere
	}{
		{"twice", true, []uint16{1, 2, 3}, 1},
		{"twice, and new", false, []uint16{1, 2, 3}, 1},
		{"there and back", true, []uint16{1, 2, 1}, 0},
		{"there and back and on", true, []uint16{1, 2, 1, 3}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStand(t)
			s.whole(at(c.ports[0]))
			if c.known {
				s.News()
			}
			for _, p := range c.ports[1:] {
				s.say(agent.Report{Up: []agent.Tunnel{at(p)}})
			}
			if news := s.News(); len(news) != 1 || news[0].Before.Port() != c.before {
				t.Errorf("news %+v", news)
			}
			last := c.ports[len(c.ports)-1]
			s.say(agent.Report{Up: []agent.Tunnel{at(9)}})
			if news := s.News(); len(news) != 1 || news[0].Before.Port() != last {
				t.Errorf("then moved from %d: %+v", last, news)
			}
		})
	}
}

// An agent that tells of thousands of peers at one address and port makes nobody look at all of them, and hides nobody's.
func TestManyAtOneAddress(t *testing.T) {
	s := newStand(t)
	site := tunnel(1)
	list := tunnels(0, agent.MaxTunnels)
	for i := range list {
		list[i].Endpoint = site.Endpoint
	}
	s.whole(list...)
	l := newLine(nil, "another host", "other")
	if _, err := s.Book.join(l, hello("other", "rs2"), anyone); err != nil {
		t.Fatal(err)
	}
	if _, err := s.report(l, &agent.Report{RealServer: "rs2", Seq: 1, Whole: true, First: true, Last: true, Up: []agent.Tunnel{site}}); err != nil {
		t.Fatal(err)
	}
	for _, e := range []affinity.Endpoint{site.Endpoint, netip.AddrPortFrom(site.Endpoint.Addr(), 0)} {
		count := map[string]int{}
		for _, x := range s.Sightings(vips, []affinity.Endpoint{e}, false) {
			count[x.RealServer]++
		}
		if count["rs1"] != atEach || count["rs2"] != 1 {
			t.Errorf("at %v: %v", e, count)
		}
	}
	for i := range list {
		list[i].Endpoint = netip.AddrPortFrom(site.Endpoint.Addr(), uint16(i+1))
	}
	s.say(agent.Report{Up: list})
	if n := len(s.Sightings(vips, []affinity.Endpoint{netip.AddrPortFrom(site.Endpoint.Addr(), 0)}, false)); n != atAll {
		t.Errorf("%d at any port; wanted %d", n, atAll)
	}
	if n := len(s.Sightings(vips, []affinity.Endpoint{list[agent.MaxTunnels-1].Endpoint}, false)); n != 1 {
		t.Errorf("%d at the last port", n)
	}
}
