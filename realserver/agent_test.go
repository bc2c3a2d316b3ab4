package realserver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tunneldirector/director/agent"
	"tunneldirector/realserver/terminator"
)

var errGone = fmt.Errorf("vici: %w", terminator.ErrGone)

// settle lets what is under way come to rest, some time later.
func settle(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestTunnelsReachEveryDirector(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		soft := &software{up: sites(5000, time.Now())}
		l := begin(t, soft, 2, nil)
		settle(time.Second)
		for _, d := range l.directors {
			if d.up() != 5000 || d.health() != "working" || d.wholes != 1 {
				t.Fatalf("%s: %d tunnels, %s, %d times as a whole", d.name, d.up(), d.health(), d.wholes)
			}
			if h := d.hellos[0]; h.Version != "1.2.3" || h.Instance == "" || len(h.RealServers) != 1 || h.RealServers[0].Name != "rs1" {
				t.Errorf("hello %+v", h)
			}
		}
		soft.set(func(s *software) { s.up = s.up[:4990] })
		settle(5 * time.Second)
		if l.directors[0].up() != 4990 || l.directors[1].up() != 4990 || l.directors[0].wholes != 1 {
			t.Errorf("%d and %d tunnels, told as a whole %d times", l.directors[0].up(), l.directors[1].up(), l.directors[0].wholes)
		}
		if s := l.agent.Status(); !s.Directors[0].Connected || s.RealServers[0].Tunnels != 4990 || s.Directors[0].Name != "d1" {
			t.Errorf("status %+v", s)
		}
		if a := l.answer(); a.Health != agent.HealthWorking || a.Tunnels != 4990 {
			t.Errorf("probes are answered with %+v", a)
		}
	})
}

// TestResume: a stream that breaks goes on where it was, on a director that still knows; one that does not is told all.
func TestResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		soft := &software{up: sites(3000, time.Now())}
		l := begin(t, soft, 1, nil)
		settle(time.Second)
		d := l.directors[0]
		d.mu.Lock()
		d.accept = func(*agent.Hello) agent.Message {
			return agent.Message{Welcome: &agent.Welcome{Format: agent.Format, Director: "d1", Known: map[string]uint64{"rs1": d.known["rs1"].seq}}}
		}
		d.mu.Unlock()
		d.hangUp()
		soft.set(func(s *software) { s.up = s.up[:2900] })
		settle(10 * time.Second)
		if d.up() != 2900 || d.wholes != 1 || len(d.hellos) != 2 || d.hellos[0].Instance != d.hellos[1].Instance {
			t.Errorf("%d tunnels, told as a whole %d times, %d hellos", d.up(), d.wholes, len(d.hellos))
		}
		d.mu.Lock()
		d.accept = nil
		d.mu.Unlock()
		d.hangUp()
		settle(10 * time.Second)
		if d.up() != 2900 || d.wholes != 2 {
			t.Errorf("%d tunnels, told as a whole %d times", d.up(), d.wholes)
		}
	})
}

// TestSilentDirectorHarmsNobody: one that reads nothing, and one that is away, hold up neither the other nor the looking.
func TestSilentDirectorHarmsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		soft := &software{up: sites(3000, time.Now())}
		l := begin(t, soft, 3, func(l *lab, _ *Options) {
			l.directors[0].mute = true
			l.directors[1].refused = true
		})
		settle(time.Second)
		good := l.directors[2]
		for range 30 {
			soft.set(func(s *software) { s.up = s.up[:len(s.up)-1] })
			settle(5*time.Second + lookSoon)
			if good.up() != len(soft.up) {
				t.Fatalf("%d tunnels are known, %d are up", good.up(), len(soft.up))
			}
		}
		if n := len(good.hellos); n != 1 {
			t.Errorf("the good stream was begun %d times", n)
		}
		if n := len(l.directors[0].hellos); n < 5 {
			t.Errorf("the silent director was dialled %d times", n)
		}
		s := l.agent.Status()
		if s.Directors[1].Connected || !strings.Contains(s.Directors[1].Why, "refused") {
			t.Errorf("status of one that is away: %+v", s.Directors[1])
		}
		n := 0
		for _, line := range l.logs.list {
			if strings.Contains(line, "no stream to the director") && strings.Contains(line, "connection refused") {
				n++
			}
		}
		if n != 1 {
			t.Errorf("one director being away was logged %d times", n)
		}
	})
}

func TestKeepalive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := begin(t, &software{}, 1, func(l *lab, _ *Options) {
			l.directors[0].accept = func(*agent.Hello) agent.Message {
				return agent.Message{Welcome: &agent.Welcome{Format: agent.Format, Director: "d1", Refused: map[string]string{"rs1": "its record names another host"}}}
			}
		})
		settle(50 * time.Second)
		d := l.directors[0]
		if len(d.hellos) != 1 || d.heard > 0 || d.up() != -1 {
			t.Errorf("%d hellos, %d statuses, %d tunnels of a real server that was refused", len(d.hellos), d.heard, d.up())
		}
		settle(12 * time.Second)
		if len(d.hellos) != 2 {
			t.Errorf("asked again %d times within 62 s", len(d.hellos)-1)
		}
		if slices.ContainsFunc(l.logs.list, func(s string) bool { return strings.Contains(s, "no stream to the director") }) {
			t.Errorf("asking again is logged as a failure: %q", l.logs.list)
		}
		if !slices.ContainsFunc(l.logs.list, func(s string) bool { return strings.Contains(s, "refused=rs1: its record names another host") }) {
			t.Errorf("logs %q", l.logs.list)
		}
		if s := l.agent.Status().Directors[0]; s.Refused["rs1"] == "" {
			t.Errorf("status %+v", s)
		}
	})
}

func TestSecondAgentOfAName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := begin(t, &software{}, 1, func(l *lab, _ *Options) {
			l.directors[0].accept = func(*agent.Hello) agent.Message {
				return agent.Message{Refused: &agent.Refused{Why: "another agent speaks for host node-a"}}
			}
		})
		d := l.directors[0]
		settle(2 * time.Minute)
		if n := len(d.hellos); n < 3 || n > 5 {
			t.Errorf("dialled %d times in 2 minutes", n)
		}
		if !slices.ContainsFunc(l.logs.list, func(s string) bool {
			return strings.HasPrefix(s, "WARN") && strings.Contains(s, "another agent speaks for host node-a")
		}) {
			t.Errorf("logs %q", l.logs.list)
		}
	})
}

func TestHealth(t *testing.T) {
	tests := []struct {
		name    string
		carries int // -1: the terminator cannot tell
		fail    func(*software)
		within  time.Duration
		not     time.Duration // no verdict so soon
		want    string
		up      int // tunnels reported
	}{
		{"gone, and the data path with it", 0, func(s *software) { s.err = errGone }, 5 * time.Second, 0, "dead", 0},
		{"gone, the data path lives", 10, func(s *software) { s.err = errGone }, 5 * time.Second, 0, "headless", 10},
		{"gone, a data path of its own", -1, func(s *software) { s.err = errGone }, 5 * time.Second, 0, "dead", 0},
		{"hung", -1, func(s *software) { s.hung = true }, 5*time.Second + hangs*(LookLimit+lookAgain), 5*time.Second + 2*LookLimit, "headless", 10},
		{"hung, the data path lives", 10, func(s *software) { s.hung = true }, 5*time.Second + hangs*(LookLimit+lookAgain), 5*time.Second + 2*LookLimit, "headless", 10},
		{"nonsense", -1, func(s *software) { s.err = errors.New("answers nonsense") }, 5*time.Second + hung + lookAgain, 5*time.Second + 2*LookLimit, "headless", 10},
		{"nonsense, and the data path is gone", 0, func(s *software) { s.err = errors.New("answers nonsense") }, 5*time.Second + hung + lookAgain, 5*time.Second + 2*LookLimit, "dead", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := &kernel{carries: tt.carries}
				k.up = sites(10, time.Now())
				var soft terminator.Terminator = k
				if tt.carries < 0 {
					soft = &k.software
				}
				l := begin(t, soft, 1, nil)
				d := l.directors[0]
				settle(time.Second)
				k.set(tt.fail)
				settle(tt.not)
				if tt.not > 0 && d.health() != "working" {
					t.Errorf("%s after %s", d.health(), tt.not)
				}
				settle(tt.within - tt.not)
				if d.health() != tt.want || d.up() != tt.up || l.answer().Health.String() != tt.want {
					t.Errorf("%s with %d tunnels, probes answered by %s; want %s with %d", d.health(), d.up(), l.answer().Health, tt.want, tt.up)
				}
				k.set(func(s *software) { s.err, s.hung, s.up = nil, false, sites(7, time.Now()) })
				settle(lookAgain + LookLimit)
				if d.health() != "working" || d.up() != 7 {
					t.Errorf("after a restart: %s with %d tunnels", d.health(), d.up())
				}
			})
		})
	}
}

// TestNeverAnswered: a wrong socket in the host's file says nothing about the software. Once it was seen to work, its end is its death.
func TestNeverAnswered(t *testing.T) {
	for name, fail := range map[string]func(*software){
		"gone": func(s *software) { s.err = errGone }, "hung": func(s *software) { s.hung = true },
		"nonsense": func(s *software) { s.err = errors.New("answers nonsense") },
	} {
		for _, carries := range []int{-1, 0, 10} { // -1: the terminator cannot tell
			t.Run(fmt.Sprintf("%s, carries %d", name, carries), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					k := &kernel{carries: carries}
					fail(&k.software)
					var soft terminator.Terminator = k
					if carries < 0 {
						soft = &k.software
					}
					l := begin(t, soft, 1, nil)
					settle(time.Minute)
					d := l.directors[0]
					if s := d.last(); s.Health != agent.HealthUnknown || !strings.Contains(s.Cause, "it never answered this agent") || l.answer().Health != agent.HealthUnknown || d.up() > 0 {
						t.Errorf("directors are told %s (%s), probes %s, %d tunnels", s.Health, s.Cause, l.answer().Health, d.up())
					}
					alarms := slices.DeleteFunc(slices.Clone(l.logs.list), func(s string) bool { return !strings.HasPrefix(s, "ERROR") })
					if len(alarms) != 1 || !strings.Contains(alarms[0], "correct terminator in the host's file") {
						t.Errorf("alarms %q", alarms)
					}
					k.set(func(s *software) { s.err, s.hung, s.up = nil, false, sites(10, time.Now()) })
					settle(lookTrying + LookLimit)
					if d.health() != "working" || d.up() != 10 {
						t.Errorf("once it answers: %s with %d tunnels", d.health(), d.up())
					}
					k.set(func(s *software) { s.err = errGone })
					settle(5 * time.Second)
					if h := d.health(); h != "dead" && carries <= 0 || h != "headless" && carries > 0 {
						t.Errorf("once it has worked and is gone: %s", h)
					}
				})
			})
		}
	}
}

// TestNeverAnsweredInOtherWords: what differs in the software's words each time is one alarm, and it is not asked all the time.
func TestNeverAnsweredInOtherWords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		soft := &differing{}
		l := begin(t, soft, 1, nil)
		settle(time.Minute)
		last := l.directors[0].last()
		if last.Health != agent.HealthUnknown || !strings.Contains(last.Cause, fmt.Sprintf("nonsense at %d", soft.looks)) {
			t.Errorf("directors are told %s (%s)", last.Health, last.Cause)
		}
		if soft.looks > 120 {
			t.Errorf("%d looks in a minute", soft.looks)
		}
		if n := len(slices.DeleteFunc(slices.Clone(l.logs.list), func(s string) bool { return !strings.HasPrefix(s, "ERROR") })); n != 1 {
			t.Errorf("%d alarms, want one", n)
		}
	})
}

// differing software says something else each time.
type differing struct{ software }

func (s *differing) Tunnels(context.Context) ([]agent.Tunnel, error) {
	s.looks++
	return nil, fmt.Errorf("nonsense at %d", s.looks)
}

// TestHangsOnce: one look that is not answered proves nothing.
func TestHangsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		soft := &software{up: sites(3, time.Now())}
		l := begin(t, soft, 1, nil)
		settle(time.Second)
		soft.set(func(s *software) { s.hung = true })
		settle(6 * time.Second)
		soft.set(func(s *software) { s.hung = false })
		settle(5 * time.Second)
		if s := l.directors[0].last(); s.Health != agent.HealthWorking || time.Since(s.Since) < 10*time.Second || l.directors[0].up() != 3 {
			t.Errorf("%+v, %d tunnels", s, l.directors[0].up())
		}
	})
}

// TestRestartIsSeen: a terminator that restarted between two looks has other tunnels, of the same names.
func TestRestartIsSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		soft := &software{up: sites(3, time.Now())}
		l := begin(t, soft, 1, nil)
		settle(time.Second)
		soft.set(func(s *software) { s.up = sites(3, time.Now().Add(3*time.Second)) })
		settle(5 * time.Second)
		want := soft.up[0].Since
		l.directors[0].mu.Lock()
		defer l.directors[0].mu.Unlock()
		if got := l.directors[0].known["rs1"].up["site-00000"].Since; !got.Equal(want) {
			t.Errorf("established %s, want %s", got, want)
		}
	})
}

// TestChangesAreSeenAtOnce: a terminator that tells of changes is looked at soon, and not more often than that.
func TestChangesAreSeenAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &kernel{poke: make(chan struct{})}
		l := begin(t, k, 1, nil)
		settle(time.Second)
		k.set(func(s *software) { s.up, s.looks = sites(1, time.Now()), 0 })
		for range 10 {
			k.poke <- struct{}{}
		}
		settle(lookSoon)
		if l.directors[0].up() != 1 || k.lookCount() > 2 {
			t.Errorf("%d tunnels after %s, %d looks", l.directors[0].up(), lookSoon, k.lookCount())
		}
	})
}

// TestHealthIsToldAtOnce: what cannot wait for the next second does not, neither for directors nor for probes.
func TestHealthIsToldAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &kernel{poke: make(chan struct{})}
		l := begin(t, k, 1, nil)
		settle(2300 * time.Millisecond)
		k.set(func(s *software) { s.err = errGone })
		k.poke <- struct{}{}
		settle(lookSoon)
		if l.directors[0].health() != "dead" || l.answer().Health != agent.HealthDead {
			t.Errorf("directors know %s, probes are answered by %s", l.directors[0].health(), l.answer().Health)
		}
	})
}

// That probes are flooded is known to directors within the time of a status, whatever else is as it was.
func TestFloodIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var flooded atomic.Bool
		l := begin(t, &software{}, 1, func(_ *lab, o *Options) { o.Flooded = func(rs string) bool { return rs == "rs1" && flooded.Load() } })
		settle(10 * time.Second)
		d := l.directors[0]
		for _, now := range []bool{true, false} {
			flooded.Store(now)
			settle(statusEvery)
			d.mu.Lock()
			if d.status["rs1"].Flooded != now {
				t.Errorf("flooded %v is not told", now)
			}
			d.mu.Unlock()
		}
	})
}

// TestAnswersHold: as long as somebody looks, the responder is told so, though nothing changes.
func TestAnswersHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		soft := &software{}
		l := begin(t, soft, 0, nil)
		settle(61 * time.Second)
		l.mu.Lock()
		defer l.mu.Unlock()
		if since := time.Since(l.told); since > 5*time.Second {
			t.Errorf("told %s ago", since)
		}
	})
}

func TestUnfitTunnels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		soft := &software{up: sites(5, time.Now())}
		soft.up[1].Peer = ""
		soft.up[2].Peer = strings.Repeat("x", agent.MaxText+1)
		soft.up[3].Peer = "\xff"
		soft.up[4].Endpoint = netip.AddrPort{}
		l := begin(t, soft, 1, nil)
		settle(20 * time.Second)
		if n := l.directors[0].up(); n != 1 || len(l.directors[0].hellos) != 1 {
			t.Errorf("%d tunnels reported over %d streams", n, len(l.directors[0].hellos))
		}
		if s := l.agent.Status().RealServers[0]; s.Unreported != 4 || s.Tunnels != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// TestFoundIsToldOnce: what is wrong with the host is told at the begin of a stream and when it changes, not each second.
func TestFoundIsToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		looks := 0
		l := begin(t, &software{}, 1, func(_ *lab, o *Options) {
			o.Examine = func(context.Context) map[string][]agent.Finding {
				looks++
				switch {
				case looks < 3:
					return map[string][]agent.Finding{"rs1": {{ID: "a", What: "one"}, {ID: "b", What: "two"}}}
				case looks < 5:
					return map[string][]agent.Finding{"rs1": {{ID: "a", What: "one"}}}
				}
				return nil
			}
		})
		d := l.directors[0]
		is := func(when string, ids ...string) {
			t.Helper()
			settle(2 * time.Second)
			var got []string
			for _, f := range d.last().Found {
				got = append(got, f.ID)
			}
			if !slices.Equal(got, ids) {
				t.Errorf("%s: told of %q, want %q", when, got, ids)
			}
		}
		is("at first", "a", "b")
		said := func() int {
			d.mu.Lock()
			defer d.mu.Unlock()
			return d.found
		}
		before := said()
		settle(tendEvery)
		is("a minute later", "a", "b")
		if n := said(); n != before {
			t.Errorf("told %d times more, though nothing had changed", n-before)
		}
		d.hangUp()
		settle(redialMost)
		is("over a new stream", "a", "b")
		settle(tendEvery)
		is("when one was mended", "a")
		if n := said(); n != before+2 {
			t.Errorf("told %d times more, want 2: to a new stream, and a change", n-before)
		}
		settle(2 * tendEvery)
		is("when all were")
	})
}

func TestTend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		l := begin(t, &software{}, 0, func(_ *lab, o *Options) {
			o.Tend = func(context.Context) error {
				calls++
				if calls < 4 {
					return errors.New("rp_filter is 1")
				}
				return nil
			}
		})
		settle(time.Second)
		if s := l.agent.Status(); s.Unready != "rp_filter is 1" {
			t.Errorf("status %+v", s)
		}
		settle(5 * tendEvery)
		if s := l.agent.Status(); s.Unready != "" {
			t.Errorf("once the host is right: %+v", s)
		}
		told := slices.DeleteFunc(slices.Clone(l.logs.list), func(s string) bool { return !strings.Contains(s, "the host is not as it has to be") })
		if calls != 6 || len(told) != 1 {
			t.Errorf("tended %d times, told %q", calls, told)
		}
	})
}
