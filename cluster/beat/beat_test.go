package beat

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tunneldirector/cluster"
)

// A set is some directors on a network of two paths.
type set struct {
	t     *testing.T
	net   *network
	nodes map[string]*node
	ring  Ring // of those that are started from now on
}

type node struct {
	*Beater
	member cluster.Member
	stop   func()
}

// inBubble runs a test in virtual time, over directors of these names that know each other and are ready.
func inBubble(t *testing.T, names []string, f func(s *set)) {
	synctest.Test(t, func(t *testing.T) {
		s := &set{t: t, net: newNetwork(), nodes: map[string]*node{}, ring: keys{key(1)}}
		for i, name := range names {
			s.start(name, i+1, nil)
		}
		for _, n := range s.nodes {
			n.Say(cluster.Beat{Ready: true})
		}
		synctest.Wait() // none is between the two paths of a beat when it learns of the others
		s.meet()
		s.after(time.Second)
		s.pokes()
		f(s)
		for _, n := range s.nodes {
			n.stop()
		}
	})
}

func addrOf(host, path int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(path), 0, byte(host)}), 7464)
}

// start starts a director on a host.
func (s *set) start(name string, host int, now func() time.Time, change ...func(*Beater)) *node {
	m := cluster.Member{Name: name, Rank: host, Role: cluster.RoleBoth, Beats: []netip.AddrPort{addrOf(host, 0), addrOf(host, 1)}}
	b := New(Options{
		Self: m, Conns: []net.PacketConn{s.net.listen(m.Beats[0]), s.net.listen(m.Beats[1])}, Ring: s.ring, Now: now,
		Sleep: time.Sleep, Log: slog.New(slog.DiscardHandler),
	})
	for _, f := range change {
		f(b)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- b.Run(ctx) }()
	n := &node{Beater: b, member: m, stop: func() {
		cancel()
		if err := <-done; err != nil {
			s.t.Errorf("%s ran until: %v", name, err)
		}
	}}
	s.nodes[name] = n
	return n
}

// end ends one.
func (s *set) end(name string) {
	s.nodes[name].stop()
	delete(s.nodes, name)
}

// meet tells all who is there.
func (s *set) meet() {
	var list []cluster.Member
	for _, n := range s.nodes {
		list = append(list, n.member)
	}
	for _, n := range s.nodes {
		n.SetMembers(list)
	}
}

func (s *set) after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// pokes counts who was poked since the last call.
func (s *set) pokes() string {
	var names []string
	for _, name := range []string{"a", "b", "c"} {
		if n := s.nodes[name]; n != nil {
			select {
			case <-n.Changed():
				names = append(names, name)
			default:
			}
		}
	}
	return strings.Join(names, " ")
}

// sees fails unless a director sees exactly these alive, itself among them.
func (s *set) sees(who string, alive ...string) {
	s.t.Helper()
	if got := s.nodes[who].View().Alive(); strings.Join(got, " ") != strings.Join(alive, " ") {
		s.t.Errorf("%s sees %v alive, want %v", who, got, alive)
	}
}

// says fails unless a problem of a director has each of these in it.
func (s *set) says(who string, parts ...string) {
	s.t.Helper()
	all := strings.Join(s.nodes[who].Problems(), "\n")
	for _, part := range parts {
		if !strings.Contains(all, part) {
			s.t.Errorf("problems of %s do not say %q:\n%s", who, part, all)
		}
	}
	if len(parts) == 0 && all != "" {
		s.t.Errorf("problems of %s:\n%s", who, all)
	}
}

func (s *set) peer(who, of string) cluster.Peer {
	s.t.Helper()
	p, ok := s.nodes[who].View().Peer(of)
	if !ok {
		s.t.Errorf("%s does not know %s", who, of)
	}
	return p
}

func TestADeathIsSeenWithinASecond(t *testing.T) {
	inBubble(t, []string{"a", "b", "c"}, func(s *set) {
		s.sees("a", "a", "b", "c")
		if v := s.nodes["c"].View(); v.Assigner() != "a" {
			t.Errorf("%q assigns", v.Assigner())
		}
		s.end("b")
		s.after(500 * time.Millisecond)
		s.sees("a", "a", "b", "c")
		s.after(200 * time.Millisecond)
		s.sees("a", "a", "c")
		s.sees("c", "a", "c")
		if got := s.pokes(); got != "a c" {
			t.Errorf("poked: %q", got)
		}
		if p := s.peer("a", "b"); time.Since(p.Since) > 200*time.Millisecond || time.Since(p.Heard) < 500*time.Millisecond || p.Paths[0].Lost != 1 {
			t.Errorf("of the dead it says %+v", p)
		}
		s.start("b", 2, nil).Say(cluster.Beat{Ready: true})
		s.meet()
		s.after(250 * time.Millisecond)
		s.sees("a", "a", "b", "c")
		s.says("a")
	})
}

func TestThePulseIsNoNews(t *testing.T) {
	inBubble(t, []string{"a", "b"}, func(s *set) {
		for i := range 60 {
			for _, n := range s.nodes {
				n.Say(cluster.Beat{Ready: true, ReadyFor: time.Duration(i) * time.Second, Revision: uint64(i), Root: uint64(i)})
			}
			s.after(time.Second)
		}
		if got := s.pokes(); got != "" {
			t.Errorf("poked: %q", got)
		}
		p := s.peer("a", "b")
		if p.Beat.Revision != 59 || p.Beat.ReadyFor < 59*time.Second || time.Since(p.Heard) > 200*time.Millisecond || p.Paths[0].Lost != 0 || p.Paths[1].Lost != 0 {
			t.Errorf("its view: %+v", p)
		}
		s.nodes["b"].Say(cluster.Beat{Ready: true, ReadyFor: time.Minute, Leaving: true})
		s.after(150 * time.Millisecond)
		if got := s.pokes(); got != "a" || !s.peer("a", "b").Beat.Leaving || !s.peer("a", "b").Alive {
			t.Errorf("poked when it leaves: %q, %+v", got, s.peer("a", "b"))
		}
		for i, b := range []cluster.Beat{{Ready: true, Full: true}, {Ready: true, Full: true, Assigner: 7}} {
			s.nodes["b"].Say(b)
			s.after(150 * time.Millisecond)
			if got := s.pokes(); got != "a" {
				t.Errorf("poked at the %dth of what is news: %q", i+1, got)
			}
		}
		s.nodes["b"].Say(cluster.Beat{Ready: true, ReadyFor: time.Minute, Leaving: true})
		if b := s.nodes["b"].View().Beat; !b.Leaving || b.From != "b" || b.ReadyFor < time.Minute {
			t.Errorf("of itself it says %+v", b)
		}
	})
}

// Before the loop's first word a beat would say that the table is empty, which others conclude much from.
func TestNothingIsSaidBeforeTheLoopHasSpoken(t *testing.T) {
	inBubble(t, []string{"a"}, func(s *set) {
		s.start("b", 2, nil)
		s.meet()
		s.after(2 * time.Second)
		s.sees("a", "a")
		s.sees("b", "a", "b")
		s.nodes["b"].Say(cluster.Beat{Root: 7})
		s.after(150 * time.Millisecond)
		s.sees("a", "a", "b")
		if b := s.peer("a", "b").Beat; b.Root != 7 {
			t.Errorf("its first beat: %+v", b)
		}
	})
}

func TestALostPathMovesNothing(t *testing.T) {
	inBubble(t, []string{"a", "b"}, func(s *set) {
		s.net.set(addrOf(2, 1), addrOf(1, 1), true)
		s.after(800 * time.Millisecond)
		s.sees("a", "a", "b")
		if got := s.pokes(); got != "a" {
			t.Errorf("poked: %q", got)
		}
		if p := s.peer("a", "b"); p.Paths[0].Lost != 0 || p.Paths[1].Lost != 1 {
			t.Errorf("paths %+v", p.Paths)
		}
		s.says("a", "director b has not been heard on path 2 (10.1.0.2:7464) since ")
		s.says("b")
		s.net.set(addrOf(2, 0), addrOf(1, 0), true)
		s.after(800 * time.Millisecond)
		s.sees("a", "a")
		s.sees("b", "a", "b") // one way only
		s.net.set(addrOf(2, 1), addrOf(1, 1), false)
		s.after(200 * time.Millisecond)
		s.sees("a", "a", "b")
		s.says("a", "director b has not been heard on path 1 (10.0.0.2:7464) since ")
	})
}

func TestAStuckPathHoldsUpNoOther(t *testing.T) {
	inBubble(t, []string{"a", "b", "c"}, func(s *set) {
		s.net.stick(addrOf(1, 0))
		s.after(10 * time.Second)
		s.sees("b", "a", "b", "c")
		if p := s.peer("b", "a"); p.Paths[0].Lost != 1 || p.Paths[1].Lost != 0 || time.Since(p.Heard) > 200*time.Millisecond {
			t.Errorf("paths %+v", p.Paths)
		}
		s.says("a", "send heartbeats to b on path 1: ", "send heartbeats to c on path 1: ")
	})
}

// A process that was stopped, and goes on, says first what it said last, and others may have its addresses by now. Nor does it
// know which real servers answer.
func TestWhatIsHeldOrReachedIsNotSaidForLong(t *testing.T) {
	inBubble(t, []string{"a", "b"}, func(s *set) {
		held := cluster.Beat{Ready: true, ReadyFor: time.Hour, Holds: hashes(1), Probes: true}
		s.nodes["a"].Say(held)
		s.after(900 * time.Millisecond)
		if b := s.peer("b", "a").Beat; len(b.Holds) != 1 || !b.Probes || b.ReadyFor < time.Hour {
			t.Errorf("after a moment's silence of the loop: %+v", b)
		}
		s.after(300 * time.Millisecond)
		if b := s.peer("b", "a").Beat; len(b.Holds) != 0 || b.Probes || !b.Ready || b.Hung {
			t.Errorf("after a second's silence of the loop: %+v", b)
		}
		s.nodes["a"].Say(held)
		s.after(200 * time.Millisecond)
		if b := s.peer("b", "a").Beat; len(b.Holds) != 1 || !b.Probes {
			t.Errorf("when it turns: %+v", b)
		}
		s.nodes["a"].Say(cluster.Beat{Ready: true})
		s.after(200 * time.Millisecond)
		if b := s.peer("b", "a").Beat; b.ReadyFor > time.Second {
			t.Errorf("ready anew: %+v", b)
		}
	})
}

// Who says that it has more than fits is not taken for one that holds nothing and reaches everything.
func TestManyIsSaid(t *testing.T) {
	inBubble(t, []string{"a", "b"}, func(s *set) {
		s.nodes["a"].Say(cluster.Beat{Ready: true, Probes: true, Many: true})
		s.after(200 * time.Millisecond)
		b := s.peer("b", "a").Beat
		if _, known := b.Reaches("rs1"); !b.Many || known || !s.nodes["a"].View().Beat.Many {
			t.Errorf("its lists were left out before it was said: %+v", b)
		}
		s.nodes["a"].Say(cluster.Beat{Ready: true, Probes: true, Holds: make([]cluster.Hash, cluster.MaxHashes+1)})
		s.after(200 * time.Millisecond)
		if b := s.peer("b", "a").Beat; !b.Many || len(b.Holds) != 0 {
			t.Errorf("more than fits was said: %+v", b)
		}
		s.after(time.Second)
		if b := s.peer("b", "a").Beat; b.Many {
			t.Errorf("after a second's silence of the loop it holds more than can be said: %+v", b)
		}
		s.nodes["a"].Say(cluster.Beat{Ready: true, Probes: true, Holds: hashes(1)})
		s.after(200 * time.Millisecond)
		if b := s.peer("b", "a").Beat; b.Many || len(b.Holds) != 1 {
			t.Errorf("it has few again: %+v", b)
		}
	})
}

func TestALoopThatDoesNotTurnIsHung(t *testing.T) {
	inBubble(t, []string{"a", "b"}, func(s *set) {
		s.after(8900 * time.Millisecond)
		if s.peer("b", "a").Beat.Hung {
			t.Error("hung before its time")
		}
		s.nodes["b"].Say(cluster.Beat{Ready: true})
		s.after(300 * time.Millisecond)
		if got := s.pokes(); got != "b" || !s.peer("b", "a").Beat.Hung || !s.nodes["a"].View().Beat.Hung || s.nodes["b"].View().Assigner() != "b" {
			t.Errorf("poked: %q, %+v", got, s.peer("b", "a").Beat)
		}
		s.nodes["a"].Say(cluster.Beat{Ready: true})
		s.after(200 * time.Millisecond)
		if s.peer("b", "a").Beat.Hung || s.nodes["b"].View().Assigner() != "a" {
			t.Error("hung for ever")
		}
	})
}

// post sends a datagram to a director from elsewhere.
func (s *set) post(from, to int, data []byte) {
	s.t.Helper()
	if _, err := s.net.listen(addrOf(from, 0)).WriteTo(data, net.UDPAddrFromAddrPort(addrOf(to, 0))); err != nil {
		s.t.Fatal(err)
	}
}

// sealed is a datagram with this in it.
func (s *set) sealed(plain []byte) []byte {
	s.t.Helper()
	data, err := (&sealer{ring: s.ring}).seal(plain)
	if err != nil {
		s.t.Fatal(err)
	}
	return data
}

func TestWhoIsRefused(t *testing.T) {
	inBubble(t, []string{"a", "b"}, func(s *set) {
		members := []cluster.Member{s.nodes["a"].member, s.nodes["b"].member}
		start := func(as, name string, host int) *node {
			kept := s.nodes[name]
			n := s.start(name, host, nil)
			n.Say(cluster.Beat{Ready: true})
			s.nodes[as], s.nodes[name] = n, kept
			if kept == nil {
				delete(s.nodes, name)
			}
			return n
		}
		s.ring = keys{key(2)}
		start("foreign", "a", 7).SetMembers(members[1:])
		s.ring = keys{key(1)}
		start("strange", "stranger", 8).SetMembers(members)
		second := start("second b", "b", 9)
		second.SetMembers(members)
		start("second a", "a", 10).SetMembers([]cluster.Member{{Name: "other", Beats: members[0].Beats}})
		s.after(time.Second)
		s.says("b", "heartbeats from 10.0.0.7 on path 1 are not sealed by a key of this keyring", "from 10.1.0.7 on path 2")
		s.says("a", "has this one's name, a")
		if all := strings.Join(s.nodes["a"].Problems(), "\n"); strings.Contains(all, "stranger") {
			t.Errorf("gossip is given no time: %s", all)
		}
		s.after(5 * time.Second)
		s.says("a", "heartbeats of director stranger come from 10.", "director b runs twice, once at 10.")
		if p := s.peer("a", "b"); !p.Alive || p.Beat.Start != second.Beater.start {
			t.Errorf("the later one does not count: %+v", p)
		}
		s.after(2 * time.Minute)
		if n := len(s.nodes["a"].Problems()); n > 6 {
			t.Errorf("%d problems: %q", n, s.nodes["a"].Problems())
		}
	})
}

func TestGarbageIsCounted(t *testing.T) {
	inBubble(t, []string{"a"}, func(s *set) {
		s.post(21, 1, []byte("half a record"))
		s.post(22, 1, s.sealed(append([]byte{version + 1}, "of the future"...)))
		s.post(22, 1, s.sealed(append([]byte{version + 1}, "of the future"...)))
		s.post(23, 1, s.sealed([]byte{version, 0xff}))
		s.after(time.Second)
		s.says("a", "heartbeats from 10.0.0.21 on path 1 are not sealed by", "heartbeats from 10.0.0.22: format 2 of heartbeats is newer than this program's (1): upgrade this director (last seen at 2000-01-01T00:00:01Z, 2 times",
			"heartbeats from 10.0.0.23: decode heartbeat: ")
	})
}

func TestRecordedBeatsAreRefused(t *testing.T) {
	inBubble(t, []string{"a", "b"}, func(s *set) {
		beat := s.nodes["b"].View().Beat
		beat.Leaving = true // it would matter
		plain, err := encode(beat)
		if err != nil {
			t.Fatal(err)
		}
		s.after(200 * time.Millisecond)
		for range 3 {
			s.post(30, 1, s.sealed(plain))
			s.after(2600 * time.Millisecond)
		}
		if s.peer("a", "b").Beat.Leaving || s.pokes() != "" {
			t.Error("an old heartbeat was taken")
		}
		s.says("a", "heartbeats of director b come again on path 1, from 10.0.0.30: they are refused (last seen at 2000-01-01T00:00:06Z, 3 times")
		s.end("b")
		s.after(time.Second)
		s.post(30, 1, s.sealed(plain))
		s.after(100 * time.Millisecond)
		s.sees("a", "a")
	})
}

func TestClocks(t *testing.T) {
	inBubble(t, []string{"a", "b"}, func(s *set) {
		s.end("b")
		s.after(time.Second)
		ahead := 365 * 24 * time.Hour
		clock := func() time.Time { return time.Now().Add(ahead) }
		s.start("b", 2, clock).Say(cluster.Beat{Ready: true})
		s.meet()
		s.after(time.Second)
		if p := s.peer("a", "b"); (p.Offset-ahead).Abs() > 10*time.Millisecond || !p.Alive {
			t.Errorf("offset %v, alive %t", p.Offset, p.Alive)
		}
		s.sees("b", "a", "b")
		s.end("b")
		s.after(time.Second)
		ahead = 3 * time.Second // set, and started again: its start is a year before the last one
		s.start("b", 2, clock).Say(cluster.Beat{Ready: true})
		s.meet()
		s.after(time.Second)
		s.sees("a", "a", "b")
		s.end("b")
		s.after(time.Second)
		ahead = -10 * time.Minute // as an old recording would say
		s.start("b", 2, clock).Say(cluster.Beat{Ready: true})
		s.meet()
		s.after(time.Second)
		s.sees("a", "a", "b")
	})
}

func TestAStarvedSenderSaysSo(t *testing.T) {
	inBubble(t, []string{"a"}, func(s *set) {
		var log bytes.Buffer
		s.start("b", 2, nil, func(b *Beater) {
			b.o.Log = slog.New(slog.NewTextHandler(&log, nil))
			b.sleep = func(d time.Duration) { time.Sleep(d + 500*time.Millisecond) }
			b.raise = func() error { return fmt.Errorf("not permitted") }
		})
		s.after(2 * time.Second)
		s.says("b", "heartbeats were sent 400ms late: this machine is short of processor time")
		if !strings.Contains(log.String(), `scheduling="normal: not permitted"`) {
			t.Errorf("the log does not say how it is scheduled: %s", log.String())
		}
	})
}

func TestRunRefuses(t *testing.T) {
	for name, o := range map[string]Options{
		"no path": {Self: cluster.Member{Name: "a"}}, "no name": {Conns: make([]net.PacketConn, 1)},
		"a long name": {Self: cluster.Member{Name: strings.Repeat("a", maxName+1)}, Conns: make([]net.PacketConn, 1)},
	} {
		if err := New(o).Run(t.Context()); err == nil {
			t.Errorf("%s: it runs", name)
		}
	}
}
