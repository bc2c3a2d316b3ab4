package probe

import (
	"net/netip"
	"testing"
	"time"

	"tunneldirector/affinity"
)

const wireguard = 51820

// onOneHost replaces the targets by n real servers on the stage's host, and takes its UDP ports to be open as told.
func (s *stage) onOneHost(p *Prober, n int, open func(rs uint16) bool) {
	s.now(func() { s.open, s.tokens, s.filled = open, 6, time.Now() })
	var targets []Target
	for i := range n {
		targets = append(targets, Target{Index: affinity.Index(i + 1), Name: "rs", Addrs: []netip.Addr{rs4}, VIPs: []netip.Addr{vip4},
			Check: affinity.Check{Proto: 17, Port: wireguard}})
	}
	p.Set(targets)
}

// during collects what is said of each real server in a time.
func during(p *Prober, d time.Duration) map[affinity.Index][]bool {
	said := map[affinity.Index][]bool{}
	for end := time.After(d); ; {
		select {
		case e := <-p.Events():
			said[e.Index] = append(said[e.Index], e.Alive)
		case <-end:
			return said
		}
	}
}

// until is during, but ends early, after n verdicts.
func until(p *Prober, n int, d time.Duration) map[affinity.Index][]bool {
	said := map[affinity.Index][]bool{}
	end := time.After(d)
	for range n {
		select {
		case e := <-p.Events():
			said[e.Index] = append(said[e.Index], e.Alive)
		case <-end:
			return said
		}
	}
	return said
}

// want checks that each real server up to n was said to be alive, or dead, once, and nothing else of it.
func want(t *testing.T, said map[affinity.Index][]bool, n int, alive bool) {
	t.Helper()
	for i := range n {
		if got := said[affinity.Index(i+1)]; len(got) != 1 || got[0] != alive {
			t.Errorf("real server %d: said alive %v, want %v once", i+1, got, alive)
		}
	}
	if len(said) != n {
		t.Errorf("verdicts about %d real servers, want %d: %v", len(said), n, said)
	}
}

func none(uint16) bool { return false }
func all(uint16) bool  { return true }

// Eight real servers on a host that has one port unreachable a second for all of them.
func TestClosedPortsOfOneHost(t *testing.T) {
	const n = 8
	for _, lab := range []struct {
		name   string
		tokens float64
	}{{"host was quiet before", 6}, {"somebody had just taken all unreachables", 0}} {
		t.Run(lab.name, func(t *testing.T) {
			play(t, affinity.Check{}, func(s *stage, p *Prober) {
				expect(t, p, true, time.Second, "ARP")
				p.Set(nil)
				time.Sleep(time.Second)
				s.onOneHost(p, n, none)
				s.now(func() { s.tokens = lab.tokens })
				want(t, during(p, 12*time.Second), n, false) // closed from the start: never alive
				if said := during(p, 10*time.Minute); len(said) != 0 {
					t.Fatalf("flapped: %v", said)
				}
				s.now(func() { s.open = all })
				want(t, during(p, 8*time.Second), n, true)
				if said := during(p, 2*time.Minute); len(said) != 0 {
					t.Fatalf("flapped: %v", said)
				}
				s.now(func() { s.open = none })
				want(t, during(p, 4*time.Second), n, false)
				if said := during(p, 10*time.Minute); len(said) != 0 {
					t.Fatalf("flapped: %v", said)
				}
			})
		})
	}
}

// One terminator of eight on a host returns, in whatever phase, within the bound of the package comment.
func TestReturnOfOneOfMany(t *testing.T) {
	const n = 8
	for _, closed := range []int{1, 2, 4, n} {
		play(t, affinity.Check{}, func(s *stage, p *Prober) {
			expect(t, p, true, time.Second, "ARP")
			p.Set(nil)
			time.Sleep(time.Second)
			s.onOneHost(p, n, all)
			want(t, during(p, 5*time.Second), n, true)
			bound := 2*time.Second*time.Duration(closed) + 6*time.Second
			slowest := time.Duration(0)
			for phase := range 6 {
				time.Sleep(relapse)
				s.now(func() { s.open = func(rs uint16) bool { return int(rs) > closed } })
				want(t, during(p, 4*time.Second), closed, false)
				time.Sleep(time.Minute + time.Duration(phase)*1371*time.Millisecond)
				from := time.Now()
				s.now(func() { s.open = func(rs uint16) bool { return int(rs) > closed || rs == 1 } })
				select {
				case e := <-p.Events():
					if e.Index != 1 || !e.Alive {
						t.Fatalf("event %+v, want the first alive", e)
					}
				case <-time.After(bound):
					t.Fatalf("%d closed: not back within %v", closed, bound)
				}
				slowest = max(slowest, time.Since(from))
				s.now(func() { s.open = all })
				for i, got := range during(p, bound+time.Minute) {
					if i == 1 || len(got) != 1 || !got[0] {
						t.Fatalf("real server %d: said alive %v, want true once", i, got)
					}
				}
			}
			t.Logf("%d of %d closed: back after at most %v", closed, n, slowest)
		})
	}
}

// A host that says so less often than once a second is misjudged, but ever more seldom.
func TestStingyHost(t *testing.T) {
	play(t, affinity.Check{}, func(s *stage, p *Prober) {
		expect(t, p, true, time.Second, "ARP")
		p.Set(nil)
		time.Sleep(time.Second)
		last := time.Now()
		s.onOneHost(p, 1, nil)
		s.now(func() {
			s.said = func() bool {
				if time.Since(last) < 10*time.Second {
					return false
				}
				last = time.Now()
				return true
			}
		})
		during(p, 10*time.Minute)
		if said := during(p, time.Hour)[1]; len(said) > 120 {
			t.Errorf("%d events in an hour, want at most 120", len(said))
		}
	})
}

// Time in which nothing was asked is no silence.
func TestSilenceNeedsQuestions(t *testing.T) {
	play(t, affinity.Check{}, func(s *stage, p *Prober) {
		expect(t, p, true, time.Second, "ARP")
		p.Set(nil)
		time.Sleep(time.Second)
		s.now(func() { s.sendErr = errBusy })
		s.onOneHost(p, 1, none)
		if said := during(p, time.Minute); len(said) != 0 {
			t.Fatalf("verdicts without a question: %v", said)
		}
		s.now(func() { s.sendErr = nil })
		want(t, during(p, 5*time.Second), 1, false)
		s.now(func() { s.arp = false }) // the host goes, and comes back without and then with its terminator
		time.Sleep(time.Minute)
		s.now(func() { s.arp = true })
		if said := during(p, time.Minute); len(said) != 0 {
			t.Fatalf("alive without a terminator: %v", said)
		}
		s.now(func() { s.open = all })
		want(t, during(p, 5*time.Second), 1, true)
		s.now(func() { s.arp = false })
		want(t, during(p, 2*time.Second), 1, false)
		s.now(func() { s.arp, s.open = true, none })
		if said := during(p, time.Minute); len(said) != 0 {
			t.Fatalf("alive without a terminator: %v", said)
		}
	})
}
