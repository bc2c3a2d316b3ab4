package realserver

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"tunneldirector/director/agent"
	"tunneldirector/realserver/terminator"
)

// inherited is a site's tunnel as an order has it.
func inherited(n int) agent.Inherited {
	s := site(n, time.Time{})
	return agent.Inherited{ID: s.Peer, Peer: s.Peer, Local: s.Local, Endpoint: s.Endpoint, Subnets: s.Subnets, Bandwidth: uint64(n)}
}

func order(kind agent.OrderKind, ns ...int) agent.Order {
	o := agent.Order{RealServer: "rs1", Kind: kind}
	for _, n := range ns {
		o.Tunnels = append(o.Tunnels, inherited(n))
	}
	return o
}

func upTo(n int) (out []int) {
	for i := range n {
		out = append(out, i)
	}
	return out
}

// TestAdoptIsPaced: the biggest first, so many at once, then at the rate; all directors are told.
func TestAdoptIsPaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		soft := &software{delay: 100 * time.Millisecond}
		l := begin(t, soft, 2, func(_ *lab, o *Options) { o.Adopt = Pace{Rate: 10, Burst: 5, Retries: 1} })
		settle(time.Second)
		l.directors[0].order(order(agent.OrderAdopt, upTo(100)...))
		settle(10 * time.Millisecond)
		if len(soft.asked()) != 5 || l.directors[1].count("adopt", agent.OutcomeTrying) != 5 || l.directors[1].count("adopt", agent.OutcomeQueued) != 95 {
			t.Errorf("at once: %d asked for, %d trying, %d queued", len(soft.asked()), l.directors[1].count("adopt", agent.OutcomeTrying), l.directors[1].count("adopt", agent.OutcomeQueued))
		}
		l.directors[1].order(order(agent.OrderAdopt, upTo(100)...)) // the same
		settle(5 * time.Second)
		if n := len(soft.asked()); n < 54 || n > 56 {
			t.Errorf("%d asked for in 5 s at 10/s", n)
		}
		settle(7 * time.Second)
		for _, d := range l.directors {
			if d.count("adopt", agent.OutcomeDone) != 100 || d.up() != 100 {
				t.Errorf("%s: %d done, %d up", d.name, d.count("adopt", agent.OutcomeDone), d.up())
			}
		}
		var want []string
		for n := 99; n >= 0; n-- {
			want = append(want, site(n, time.Time{}).Peer)
		}
		if d := cmp.Diff(want, soft.asked()); d != "" {
			t.Errorf("order (-want +got):\n%s", d)
		}
		if s := l.agent.Status().RealServers[0].Adopt; s != (Carried{Done: 100}) {
			t.Errorf("status %+v", s)
		}
	})
}

func TestAdoptOutcomes(t *testing.T) {
	tests := []struct {
		name  string
		adopt func(agent.Inherited) error
		after time.Duration
		want  string
		asked int
	}{
		{"comes up", nil, 2 * time.Second, "done", 1},
		{"cannot begin", func(agent.Inherited) error { return fmt.Errorf("no key: %w", terminator.ErrWait) }, time.Second, "waiting", 1},
		{"has no means", func(agent.Inherited) error { return terminator.ErrCannot }, time.Second, "waiting", 1},
		{"asked, nothing yet", func(agent.Inherited) error { return nil }, 14 * time.Second, "trying", 1},
		{"asked, never up", func(agent.Inherited) error { return nil }, time.Minute, "failed", 3},
		{"fails", func(agent.Inherited) error { return errors.New("no proposal") }, time.Second, "queued", 1},
		{"fails each time", func(agent.Inherited) error { return errors.New("no proposal") }, 20 * time.Second, "failed", 3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				soft := &software{adopt: tt.adopt}
				l := begin(t, soft, 1, nil)
				settle(time.Second)
				l.directors[0].order(order(agent.OrderAdopt, 1))
				settle(tt.after)
				if got := l.directors[0].outcome("adopt", "site-00001"); got != tt.want || len(soft.asked()) != tt.asked {
					t.Errorf("%s, asked %d times; want %s, %d", got, len(soft.asked()), tt.want, tt.asked)
				}
				if s := l.agent.Status().RealServers[0]; (tt.want == "failed" || tt.want == "waiting") != (len(s.Failures) == 1) {
					t.Errorf("failures %+v", s.Failures)
				}
			})
		})
	}
}

// TestAdoptWhatIsUp: a tunnel that is up in truth is left alone; what a site left behind here is not taken for it.
func TestAdoptWhatIsUp(t *testing.T) {
	tests := []struct {
		name   string
		tunnel func() agent.Tunnel
		asked  int
	}{
		{"packets", func() agent.Tunnel {
			s := site(1, time.Now().Add(-time.Hour))
			s.Rx, s.Last = 1, time.Now().Add(time.Minute)
			return s
		}, 0},
		{"left behind", func() agent.Tunnel {
			s := site(1, time.Now().Add(-time.Hour))
			s.Rx, s.Last = 1, time.Now().Add(-time.Minute)
			return s
		}, 1},
		{"nothing told of packets", func() agent.Tunnel { return site(1, time.Now().Add(-time.Hour)) }, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				soft := &software{up: []agent.Tunnel{tt.tunnel()}}
				l := begin(t, soft, 1, nil)
				settle(50 * time.Second)
				l.directors[0].order(order(agent.OrderAdopt, 1))
				settle(5 * time.Second)
				if got := l.directors[0].outcome("adopt", "site-00001"); got != "done" || len(soft.asked()) != tt.asked {
					t.Errorf("%s, asked %d times, want %d", got, len(soft.asked()), tt.asked)
				}
			})
		})
	}
}

// TestAdoptRevives: a tunnel that the site had left behind here, and that carries packets again once it was asked for, is done.
func TestAdoptRevives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old := site(1, time.Now().Add(-time.Hour))
		old.Rx = 1
		soft := &software{up: []agent.Tunnel{old}}
		soft.adopt = func(agent.Inherited) error {
			time.AfterFunc(time.Second, func() { soft.set(func(s *software) { s.up[0].Rx++ }) })
			return nil
		}
		l := begin(t, soft, 1, nil)
		settle(time.Minute)
		l.directors[0].order(order(agent.OrderAdopt, 1))
		settle(5 * time.Second)
		if got := l.directors[0].outcome("adopt", "site-00001"); got != "done" || len(soft.asked()) != 1 {
			t.Errorf("%s, asked %d times", got, len(soft.asked()))
		}
	})
}

// TestReleaseLooksFirst: a site that is back since the last look is spared, too.
func TestReleaseLooksFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		soft := &software{up: []agent.Tunnel{site(1, time.Now()), site(2, time.Now())}}
		l := begin(t, soft, 1, func(_ *lab, o *Options) { o.Adopt = Pace{Rate: 1, Burst: 1} })
		settle(13 * time.Second)
		l.directors[0].order(order(agent.OrderRelease, 1, 2))
		settle(500 * time.Millisecond)
		soft.set(func(s *software) { s.establish(site(1, time.Time{})) })
		settle(time.Second)
		if !slices.Equal(soft.gave(), []string{"site-00002"}) || l.directors[0].count("release", agent.OutcomeDone) != 2 {
			t.Errorf("released %q, %d done", soft.gave(), l.directors[0].count("release", agent.OutcomeDone))
		}
	})
}

// TestSiteComesByItself: a tunnel that waits for its turn and is established meanwhile is done, and not asked for.
func TestSiteComesByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		soft := &software{}
		l := begin(t, soft, 1, func(_ *lab, o *Options) { o.Adopt = Pace{Rate: 0.01, Burst: 1} })
		settle(time.Second)
		o := order(agent.OrderAdopt, 1, 2)
		o.Tunnels[0].Peer = "" // nobody told its name: it is known by its address
		l.directors[0].order(o)
		settle(time.Second)
		soft.set(func(s *software) { s.establish(site(1, time.Time{})) })
		settle(6 * time.Second)
		if got := l.directors[0].outcome("adopt", "site-00001"); got != "done" || !slices.Equal(soft.asked(), []string{"site-00002"}) {
			t.Errorf("%s, asked for %q", got, soft.asked())
		}
	})
}

// TestAdoptWaitsForTheTerminator: a dead one is not asked, and what was asked of it does not count.
func TestAdoptWaitsForTheTerminator(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		soft := &software{err: errGone}
		l := begin(t, soft, 1, nil)
		settle(time.Second)
		l.directors[0].order(order(agent.OrderAdopt, upTo(3)...))
		settle(time.Minute)
		if len(soft.asked()) > 0 || l.directors[0].count("adopt", agent.OutcomeQueued) != 3 {
			t.Errorf("asked %d times of a dead terminator", len(soft.asked()))
		}
		soft.set(func(s *software) {
			s.err = nil
			s.adopt = func(agent.Inherited) error { return errGone }
		})
		settle(time.Minute)
		if l.directors[0].count("adopt", agent.OutcomeQueued) != 3 {
			t.Errorf("%v", l.directors[0].steps)
		}
		soft.set(func(s *software) { s.adopt = nil })
		settle(5 * time.Second)
		if l.directors[0].count("adopt", agent.OutcomeDone) != 3 {
			t.Errorf("%v", l.directors[0].steps)
		}
	})
}

func TestForget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		soft := &software{}
		l := begin(t, soft, 1, func(_ *lab, o *Options) { o.Adopt = Pace{Rate: 1, Burst: 1} })
		settle(time.Second)
		l.directors[0].order(order(agent.OrderAdopt, upTo(5)...))
		settle(time.Millisecond)
		l.directors[0].order(order(agent.OrderForget, 0, 1, 2, 3))
		settle(time.Minute)
		if !slices.Equal(soft.asked(), []string{"site-00004"}) || l.agent.Status().RealServers[0].Adopt.Queued != 0 {
			t.Errorf("asked for %q", soft.asked())
		}
	})
}

// TestForgetRelease: an order to give tunnels up can be taken back.
func TestForgetRelease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		soft := &software{up: sites(5, time.Now())}
		l := begin(t, soft, 1, func(_ *lab, o *Options) { o.Adopt = Pace{Rate: 1, Burst: 1} })
		settle(time.Minute)
		l.directors[0].order(order(agent.OrderRelease, upTo(5)...))
		settle(10 * time.Millisecond)
		before := len(soft.gave())
		l.directors[0].order(order(agent.OrderForget, upTo(5)...))
		settle(time.Minute)
		if n := len(soft.gave()); before == 5 || n > before+1 || l.agent.Status().RealServers[0].Release.Queued != 0 {
			t.Errorf("gave up %d before the order was taken back, %d in all", before, n)
		}
	})
}

// TestOldReleaseNewAgent: what came back after an order to give it up is left alone by an agent that was started after that, too.
func TestOldReleaseNewAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Hour)
		soft := &software{up: sites(2, time.Now().Add(-10*time.Second))}
		soft.up[1].Since = time.Now().Add(-5 * time.Minute)
		l := begin(t, soft, 1, nil)
		settle(time.Second)
		o := order(agent.OrderRelease, 0, 1)
		for i := range o.Tunnels {
			o.Tunnels[i].AgeMillis = 60_000
		}
		want := soft.up[1].Peer
		l.directors[0].order(o)
		settle(2 * time.Second)
		if g := soft.gave(); !slices.Equal(g, []string{want}) {
			t.Errorf("released %v, want %s, which was there at the order", g, want)
		}
	})
}

// TestLaterOrderCounts: a tunnel that goes and comes back before its turn is neither released nor adopted twice.
func TestLaterOrderCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		soft := &software{up: []agent.Tunnel{site(1, time.Now()), site(2, time.Now())}}
		l := begin(t, soft, 1, func(_ *lab, o *Options) { o.Adopt = Pace{Rate: 0.1, Burst: 1} })
		settle(10 * time.Second)
		d := l.directors[0]
		d.order(order(agent.OrderRelease, 1, 2))
		settle(100 * time.Millisecond)
		if !slices.Equal(soft.gave(), []string{"site-00002"}) {
			t.Fatalf("released %q", soft.gave())
		}
		d.order(order(agent.OrderAdopt, 1))
		settle(time.Minute)
		if len(soft.gave()) != 1 || d.outcome("adopt", "site-00001") != "done" || d.up() != 1 {
			t.Errorf("released %q, adopt %s, %d up", soft.gave(), d.outcome("adopt", "site-00001"), d.up())
		}
	})
}

func TestRelease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		soft := &software{up: sites(60, time.Now())}
		l := begin(t, soft, 1, func(_ *lab, o *Options) { o.Adopt = Pace{Rate: 10, Burst: 10} })
		settle(time.Second)
		d := l.directors[0]
		o := order(agent.OrderRelease, upTo(61)...)
		o.Tunnels[7].Peer, o.Tunnels[7].Subnets = "", nil // by address
		d.order(o)
		settle(200 * time.Millisecond)
		if d.outcome("release", "site-00060") != "done" || len(soft.gave()) < 10 || len(soft.gave()) > 14 {
			t.Errorf("one that is not there: %s; %d released at once", d.outcome("release", "site-00060"), len(soft.gave()))
		}
		settle(6 * time.Second)
		if d.count("release", agent.OutcomeDone) != 61 || d.up() != 0 || len(soft.gave()) != 60 {
			t.Errorf("%d done, %d up, %d released", d.count("release", agent.OutcomeDone), d.up(), len(soft.gave()))
		}
	})
}

// TestReleaseSparesWhatCameLater: a site that is back, established after the order, keeps its tunnel: while the order waits, and
// when it is sent once more.
func TestReleaseSparesWhatCameLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		soft := &software{up: []agent.Tunnel{site(1, time.Now()), site(2, time.Now())}}
		l := begin(t, soft, 1, func(_ *lab, o *Options) { o.Adopt = Pace{Rate: 0.1, Burst: 1} })
		settle(10 * time.Second)
		d := l.directors[0]
		d.order(order(agent.OrderRelease, 1, 2))
		settle(time.Second)
		soft.set(func(s *software) {
			s.establish(site(1, time.Time{}))
			s.establish(site(2, time.Time{}))
		})
		settle(5 * time.Second) // site 2 was released, site 1 has not had its turn
		d.order(order(agent.OrderRelease, 2))
		settle(20 * time.Second)
		if !slices.Equal(soft.gave(), []string{"site-00002"}) || d.count("release", agent.OutcomeDone) != 2 || d.up() != 2 {
			t.Errorf("released %q, %d done, %d up", soft.gave(), d.count("release", agent.OutcomeDone), d.up())
		}
		settle(2 * remembered)
		d.order(order(agent.OrderRelease, 2)) // much later it is a new order
		settle(time.Second)
		if len(soft.gave()) != 2 {
			t.Errorf("released %q", soft.gave())
		}
		soft.set(func(s *software) { s.establish(site(2, time.Time{})) })
		settle(2 * remembered)
		late := order(agent.OrderRelease, 2) // of a director that could not send it before
		late.Tunnels[0].AgeMillis = uint32((3 * remembered).Milliseconds())
		d.order(late)
		settle(time.Second)
		if len(soft.gave()) != 2 {
			t.Errorf("an old order released what was established since: %q", soft.gave())
		}
	})
}

func TestAccept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		soft := &software{acceptErr: errors.New("busy")}
		l := begin(t, soft, 2, nil)
		settle(time.Second)
		l.directors[0].order(agent.Order{RealServer: "rs1", Kind: agent.OrderClose})
		l.directors[1].order(agent.Order{RealServer: "rs1", Kind: agent.OrderClose})
		settle(10 * time.Millisecond)
		if !l.answer().Closed || !l.directors[1].last().Closed || !slices.Equal(soft.taken(), []bool{false}) {
			t.Errorf("closed %v, told %v, asked %v", l.answer().Closed, l.directors[1].last().Closed, soft.taken())
		}
		soft.set(func(s *software) { s.acceptErr = nil })
		settle(10 * time.Second)
		l.directors[0].order(agent.Order{RealServer: "rs1", Kind: agent.OrderAccept})
		settle(10 * time.Millisecond)
		if l.answer().Closed || !slices.Equal(soft.taken(), []bool{false, false, true}) {
			t.Errorf("closed %v, asked %v", l.answer().Closed, soft.taken())
		}
		soft.set(func(s *software) { s.acceptErr = fmt.Errorf("charon: %w", terminator.ErrCannot) })
		l.directors[0].order(agent.Order{RealServer: "rs1", Kind: agent.OrderClose})
		settle(time.Hour)
		if !l.answer().Closed || len(soft.taken()) != 4 {
			t.Errorf("closed %v, asked %v", l.answer().Closed, soft.taken())
		}
	})
}

func TestOrdersForOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		soft := &software{}
		l := begin(t, soft, 1, nil)
		settle(time.Second)
		o := order(agent.OrderAdopt, 1)
		o.RealServer = "rs9"
		l.directors[0].order(o)
		l.directors[0].order(agent.Order{RealServer: "rs1", Kind: 99, Tunnels: o.Tunnels})
		l.directors[0].order(agent.Order{RealServer: "rs1", Kind: agent.OrderAdopt, Tunnels: []agent.Inherited{{}}})
		settle(time.Second)
		if len(soft.asked()) > 0 || len(l.directors[0].hellos) != 1 {
			t.Errorf("asked for %q over %d streams", soft.asked(), len(l.directors[0].hellos))
		}
	})
}

// TestProgressOutlivesAStream: a director that was away orders again, and hears how it stands.
func TestProgressOutlivesAStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		soft := &software{}
		l := begin(t, soft, 1, nil)
		settle(time.Second)
		d := l.directors[0]
		d.order(order(agent.OrderAdopt, 1))
		d.hangUp()
		settle(10 * time.Second)
		d.order(order(agent.OrderAdopt, 1))
		settle(time.Second)
		if d.outcome("adopt", "site-00001") != "done" || len(soft.asked()) > 1 {
			t.Errorf("%s, asked %d times", d.outcome("adopt", "site-00001"), len(soft.asked()))
		}
	})
}

func TestTooManyOrders(t *testing.T) {
	var failed int
	q := newQueue(newBook(), Pace{Rate: 1}, func(_ agent.OrderKind, steps []agent.Step) {
		for _, s := range steps {
			if s.Outcome == agent.OutcomeFailed {
				failed++
			}
		}
	})
	for range 3 {
		o := agent.Order{Kind: agent.OrderAdopt}
		for i := range agent.MaxReported/2 + 1 {
			o.Tunnels = append(o.Tunnels, agent.Inherited{ID: fmt.Sprint(len(q.jobs), " ", i), Endpoint: netip.MustParseAddrPort("192.0.2.1:1")})
		}
		q.order(epoch, &o)
	}
	if len(q.jobs) != agent.MaxReported || failed != agent.MaxReported/2+3 {
		t.Errorf("%d jobs, %d failed", len(q.jobs), failed)
	}
}

// TestAdoptWhereTheSiteIs: a tunnel from where the site was before it moved is asked for again, however young it is.
func TestAdoptWhereTheSiteIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		soft := &software{up: []agent.Tunnel{site(1, time.Now())}}
		soft.adopt = func(o agent.Inherited) error {
			time.AfterFunc(time.Millisecond, func() {
				soft.set(func(s *software) { s.up[0].Endpoint, s.up[0].Rx = o.Endpoint, s.up[0].Rx+1 })
			})
			return nil
		}
		l := begin(t, soft, 1, nil)
		settle(time.Second)
		moved := order(agent.OrderAdopt, 1)
		moved.Tunnels[0].Endpoint = netip.MustParseAddrPort("203.0.113.99:4500")
		l.directors[0].order(moved)
		settle(10 * time.Second)
		if got := l.directors[0].outcome("adopt", "site-00001"); got != "done" || len(soft.asked()) != 1 {
			t.Errorf("%s, asked %d times", got, len(soft.asked()))
		}
	})
}
