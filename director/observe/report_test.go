package observe

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"tunneldirector/affinity"
	"tunneldirector/director/agent"
)

// anyone may speak for any real server.
var anyone = Options{Name: "d1", May: func(string, agent.Server) error { return nil }, Differs: func(agent.Server) []string { return nil }}

func hello(instance string, names ...string) *agent.Hello {
	h := &agent.Hello{Format: agent.Format, Instance: instance}
	for _, name := range names {
		h.RealServers = append(h.RealServers, agent.Server{Name: name, Terminator: "test"})
	}
	return h
}

// A stand is a Book at a time of one's own, and an agent that speaks for rs1.
type stand struct {
	*Book
	t    testing.TB
	at   time.Time
	line *line
	seq  uint64
}

func newStand(t testing.TB) *stand {
	s := &stand{t: t, at: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	s.Book = NewBook(func() time.Time { return s.at })
	s.join("one")
	return s
}

func (s *stand) join(instance string) {
	s.t.Helper()
	if s.line != nil {
		s.leave(s.line)
	}
	s.line = newLine(nil, "host", instance)
	if _, err := s.Book.join(s.line, hello(instance, "rs1"), anyone); err != nil {
		s.t.Fatal(err)
	}
}

// say reports, and wants it to be taken.
func (s *stand) say(r agent.Report) {
	s.t.Helper()
	if err := s.try(r); err != nil {
		s.t.Fatal(err)
	}
}

func (s *stand) try(r agent.Report) error {
	if r.RealServer = "rs1"; r.Seq == 0 {
		s.seq++
		r.Seq = s.seq
	}
	_, err := s.report(s.line, &r)
	return err
}

func (s *stand) whole(up ...agent.Tunnel) {
	s.t.Helper()
	s.say(agent.Report{Whole: true, First: true, Last: true, Up: up})
}

func (s *stand) established() int {
	a, _ := s.Agent("rs1")
	return a.Tunnels
}

// tunnel is the nth of many: each at an address of its own.
func tunnel(n int) agent.Tunnel {
	return agent.Tunnel{Peer: fmt.Sprint("peer ", n), Local: vips[0], Endpoint: netip.AddrPortFrom(netip.AddrFrom4([4]byte{100, byte(64 + n>>16), byte(n >> 8), byte(n)}), 4500), Since: time.Unix(0, 0)}
}

func tunnels(from, n int) (out []agent.Tunnel) {
	for i := range n {
		out = append(out, tunnel(from+i))
	}
	return out
}

func TestReportsInOrder(t *testing.T) {
	whole := agent.Report{Whole: true, First: true, Last: true}
	for _, c := range []struct {
		name string
		says []agent.Report // the last of them is refused
	}{
		{"changes before anything is known", []agent.Report{{Seq: 1}}},
		{"a whole one without a beginning", []agent.Report{{Seq: 1, Whole: true, Last: true}}},
		{"without a number", []agent.Report{{Whole: true, Last: true, Up: tunnels(0, 1)}}},
		{"it begins with no number", []agent.Report{whole}},
		{"it goes on with another number", []agent.Report{{Seq: 1, Whole: true, First: true}, {Seq: 2, Whole: true, Last: true}}},
		{"it goes on after its end", []agent.Report{{Seq: 1, Whole: true, First: true, Last: true}, {Seq: 1, Whole: true}}},
		{"changes within a whole one", []agent.Report{{Seq: 1, Whole: true, First: true, Last: true}, {Seq: 2, Whole: true, First: true}, {Seq: 3}}},
		{"another's real server", []agent.Report{{RealServer: "rs2", Seq: 1, Whole: true, First: true, Last: true}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStand(t)
			for i, r := range c.says {
				if r.RealServer == "" {
					r.RealServer = "rs1"
				}
				if _, err := s.report(s.line, &r); (err != nil) != (i == len(c.says)-1) {
					t.Errorf("report %d: %v", i, err)
				}
			}
		})
	}
}

func TestWholeInPartsAndCutShort(t *testing.T) {
	s := newStand(t)
	s.whole(tunnels(0, 10)...)
	s.say(agent.Report{Seq: 5, Whole: true, First: true, Up: tunnels(5, 2)})
	s.join("one") // the stream broke
	if n := s.established(); n != 10 {
		t.Errorf("%d are established after half a report; wanted all of before", n)
	}
	if err := s.try(agent.Report{Seq: 5, Whole: true, Last: true}); err == nil {
		t.Error("the other half was taken on another stream")
	}
	s.say(agent.Report{Seq: 6, Whole: true, First: true, Up: tunnels(5, 2)})
	s.say(agent.Report{Seq: 6, Whole: true, Up: tunnels(7, 2)})
	s.say(agent.Report{Seq: 6, Whole: true, Last: true})
	if n := s.established(); n != 4 {
		t.Errorf("%d are established; wanted the 4 of three parts", n)
	}
	s.say(agent.Report{Seq: 6, Up: tunnels(20, 5)})
	if n := s.established(); n != 4 {
		t.Errorf("%d after a report that was sent again", n)
	}
	s.say(agent.Report{Seq: 1000, Up: tunnels(20, 5), Down: []string{"peer 5", "nobody", "peer 5"}})
	if n := s.established(); n != 8 {
		t.Errorf("%d after a number that jumps; wanted 8", n)
	}
}

func TestTooMany(t *testing.T) {
	all := func(s *stand, from, n int) (err error) {
		s.seq++
		for i := 0; i < n && err == nil; i += agent.MaxTunnels {
			err = s.try(agent.Report{Seq: s.seq, Whole: true, First: i == 0, Last: i+agent.MaxTunnels >= n, Up: tunnels(from+i, min(agent.MaxTunnels, n-i))})
		}
		return err
	}
	s := newStand(t)
	if err := all(s, 0, agent.MaxReported); err != nil || s.established() != agent.MaxReported {
		t.Fatalf("%d of as many as there may be: %v", s.established(), err)
	}
	if err := s.try(agent.Report{Up: tunnels(0, 100)}); err != nil {
		t.Errorf("what was told before is no more: %v", err)
	}
	if err := s.try(agent.Report{Up: tunnels(agent.MaxReported, 1)}); err == nil {
		t.Error("one more was taken")
	}
	if err := all(newStand(t), 0, agent.MaxReported+1); err == nil {
		t.Error("one more was taken in a whole report")
	}
	for i := range 4 { // names that are always new, and never a last part
		s.seq++
		for j := range agent.MaxReported / agent.MaxTunnels {
			if err := s.try(agent.Report{Seq: s.seq, Whole: true, First: j == 0, Up: tunnels((i+2)*agent.MaxReported+j*agent.MaxTunnels, agent.MaxTunnels)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := len(s.servers["rs1"].peers); n > 3*agent.MaxReported+agent.MaxTunnels {
		t.Errorf("%d tunnels are held", n)
	}
}

func TestManySubnets(t *testing.T) {
	s := newStand(t)
	s.whole()
	var err error
	for i := 0; err == nil && i < 2*maxSubnets/agent.MaxSubnets; i++ {
		x := tunnel(i)
		x.Subnets = make([]netip.Prefix, agent.MaxSubnets)
		err = s.try(agent.Report{Up: []agent.Tunnel{x}})
	}
	if n := s.servers["rs1"].subnets; err == nil || n > maxSubnets+agent.MaxSubnets {
		t.Errorf("%d subnets are held: %v", n, err)
	}
	s = newStand(t)
	s.whole()
	for i := range 2 * maxSubnets / agent.MaxSubnets { // each ends before the next: what is remembered gives way
		x := tunnel(i)
		x.Subnets = make([]netip.Prefix, agent.MaxSubnets)
		s.say(agent.Report{Up: []agent.Tunnel{x}})
		s.say(agent.Report{Down: []string{x.Peer}})
	}
	if n := s.servers["rs1"].subnets; n > maxSubnets {
		t.Errorf("%d subnets are remembered", n)
	}
}

// Peers that come and go are remembered for a while, and not without end.
func TestChurn(t *testing.T) {
	s := newStand(t)
	s.whole()
	for i := range 200 {
		s.say(agent.Report{Up: tunnels(i*1000, 1000)})
		var down []string
		for _, x := range tunnels(i*1000, 1000) {
			down = append(down, x.Peer)
		}
		s.say(agent.Report{Down: down})
	}
	if n := len(s.servers["rs1"].peers); n != agent.MaxReported || n != s.servers["rs1"].gone.Len() {
		t.Errorf("%d tunnels that ended are remembered", n)
	}
	last := tunnel(199_999)
	if got := s.Sightings(vips, []affinity.Endpoint{last.Endpoint}, true); len(got) != 1 || got[0].Gone.IsZero() {
		t.Errorf("the one that ended last: %+v", got)
	}
	s.at = s.at.Add(remember + 2*time.Minute)
	if err := s.note(s.line, &agent.Status{RealServer: "rs1"}); err != nil {
		t.Fatal(err)
	}
	if n := len(s.servers["rs1"].peers) + len(s.byAddr); n != 0 {
		t.Errorf("%d are remembered after their time", n)
	}
}

func TestNews(t *testing.T) {
	s := newStand(t)
	first := tunnel(1)
	s.whole(first)
	moved, anew, elsewhere := first, first, first
	moved.Endpoint = netip.AddrPortFrom(first.Endpoint.Addr(), 999)
	anew.Since = first.Since.Add(time.Minute)
	elsewhere.Local = vips[1]
	counted := first
	counted.Rx, counted.Last = 5, s.at
	for _, c := range []struct {
		name string
		now  agent.Tunnel
		news int
	}{{"the first time", first, 1}, {"counters", counted, 0}, {"another port", moved, 1}, {"established anew", anew, 1}, {"at another VIP", elsewhere, 1}} {
		t.Run(c.name, func(t *testing.T) {
			s := newStand(t)
			if c.name != "the first time" {
				s.whole(first)
				s.News()
			} else {
				s.whole()
			}
			s.say(agent.Report{Seq: 50, Up: []agent.Tunnel{c.now}})
			if news := s.News(); len(news) != c.news {
				t.Errorf("%d news", len(news))
			}
		})
	}
	s.News()
	s.say(agent.Report{Up: tunnels(10, agent.MaxTunnels)})
	s.say(agent.Report{Up: tunnels(10, 5), Down: []string{"peer 10", "peer 11"}})
	taken := map[string]bool{}
	for turns := 1; ; turns++ {
		select {
		case <-s.Changed():
		default:
			t.Fatalf("nobody is told that there is more, after %d", len(taken))
		}
		for _, x := range s.News() {
			taken[x.Peer] = true
		}
		if len(s.Changed()) == 0 {
			if turns != 2 || len(taken) != agent.MaxTunnels-2 || taken["peer 11"] {
				t.Errorf("%d news in %d turns", len(taken), turns)
			}
			return
		}
	}
}

// An agent tells of changes only: what it told long ago is true until it falls silent, and no longer.
func TestHeard(t *testing.T) {
	s := newStand(t)
	s.whole(tunnel(1))
	heard := func() time.Duration {
		list := s.Sightings(vips, []affinity.Endpoint{tunnel(1).Endpoint}, false)
		if len(list) != 1 {
			t.Fatalf("seen: %+v", list)
		}
		return s.at.Sub(list[0].Heard)
	}
	s.at = s.at.Add(time.Hour)
	s.line.heard = s.at // a keepalive
	if d := heard(); d != 0 {
		t.Errorf("its agent spoke now, and it was heard of %v ago", d)
	}
	s.leave(s.line)
	s.line = nil
	s.at = s.at.Add(time.Minute)
	if d := heard(); d != time.Minute {
		t.Errorf("its agent is silent for a minute, and it was heard of %v ago", d)
	}
	s.join("two") // knows nothing yet
	s.line.heard = s.at
	if d := heard(); d != time.Minute {
		t.Errorf("another agent said nothing of it, and it was heard of %v ago", d)
	}
	s.whole(tunnel(1))
	if d := heard(); d != 0 {
		t.Errorf("it was told now, and heard of %v ago", d)
	}
}

// A clock that is ahead does not make a tunnel the newest for ever.
func TestEstablishedInTheFuture(t *testing.T) {
	s := newStand(t)
	x := tunnel(1)
	x.Since = s.at.Add(24 * time.Hour)
	s.whole(x)
	first := s.at
	s.at = s.at.Add(time.Minute)
	s.News()
	x.Rx = 1
	s.say(agent.Report{Up: []agent.Tunnel{x}})
	got := s.Sightings(vips, []affinity.Endpoint{x.Endpoint}, false)
	if news := s.News(); len(news) != 0 || len(got) != 1 || !got[0].Since.Equal(first) {
		t.Errorf("%d news of %+v; wanted since %v", len(news), got, first)
	}
}

// What May and Differs say at length does not break the stream.
func TestWelcomeInBounds(t *testing.T) {
	b := NewBook(nil)
	long := strings.Repeat("ä", agent.MaxText)
	o := Options{Name: long, May: func(_ string, s agent.Server) error {
		if s.Name != "rs1" {
			return fmt.Errorf("%s", long)
		}
		return nil
	}, Differs: func(agent.Server) []string {
		out := make([]string, 3*agent.MaxServers)
		for i := range out {
			out[i] = long
		}
		return out
	}}
	w, err := b.join(newLine(nil, "host", "i"), hello("i", "rs1", "rs2"), o)
	if err != nil {
		t.Fatal(err)
	}
	if err := sendable(agent.Message{Welcome: w}); err != nil || len(w.Warnings) == 0 || w.Refused["rs2"] == "" {
		t.Errorf("welcome with %d warnings, refused %q: %v", len(w.Warnings), w.Refused, err)
	}
	if _, err := b.join(newLine(nil, "host", "i"), hello("i", "rs1", "rs1"), o); err == nil {
		t.Error("one real server, twice")
	}
}
