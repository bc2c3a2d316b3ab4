package beat

import (
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"tunneldirector/cluster"
)

// judging runs a test in virtual time over the judge of a director "a" with two sockets, which does not run by itself.
func judging(t *testing.T, f func(t *testing.T, j *judge)) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		f(t, newJudge(New(Options{
			Self: cluster.Member{Name: "a"}, Conns: []net.PacketConn{n.listen(addrOf(1, 0)), n.listen(addrOf(1, 1))},
			Ring: keys{key(1)}, Log: slog.New(slog.DiscardHandler),
		})))
	})
}

// says is a beat of a director, as a reader tells it.
func says(name string, seq uint64, path int, leaving bool) event {
	return event{path: path, beat: cluster.Beat{From: name, Start: 1, Seq: seq, Leaving: leaving}, wall: time.Now()}
}

// turns lets time pass.
func (j *judge) turns(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		time.Sleep(j.clock.period)
		j.turn(time.Now())
	}
}

func TestAStarvedReceiver(t *testing.T) {
	judging(t, func(t *testing.T, j *judge) {
		j.adopt([]cluster.Member{{Name: "b", Beats: []netip.AddrPort{addrOf(2, 0)}}})
		b := j.peers["b"]
		j.hear(says("b", 1, 0, false))
		time.Sleep(time.Hour)
		j.turn(time.Now())
		if j.draining != 0 || !b.alive {
			t.Error("an hour in which it did not run counts")
		}
		j.turns(600 * time.Millisecond)
		if j.draining != 2 || !b.alive {
			t.Errorf("of %d sockets it asks whether they are empty; b is alive: %t", j.draining, b.alive)
		}
		j.hear(event{drained: true})
		if !b.alive {
			t.Error("b is dead before all sockets are empty")
		}
		j.hear(says("b", 2, 1, false))
		j.hear(event{path: 1, drained: true})
		if !b.alive {
			t.Error("b is dead, although a heartbeat was in a socket")
		}
	})
}

func TestWhoIsForgotten(t *testing.T) {
	b, c := cluster.Member{Name: "b"}, cluster.Member{Name: "c"}
	judging(t, func(t *testing.T, j *judge) {
		known := func(name string, want bool, why string) {
			t.Helper()
			j.turn(time.Now())
			if got := j.peers[name] != nil; got != want {
				t.Errorf("%s is known: %t, want %t: %s", name, got, want, why)
			}
		}
		silence := func() {
			j.turns(time.Second)
			j.hear(event{drained: true})
			j.hear(event{drained: true})
		}
		j.adopt([]cluster.Member{b, c})
		j.hear(says("b", 1, 0, false))
		j.hear(says("c", 1, 0, true))
		j.adopt(nil)
		known("b", true, "it is heard, whatever gossip says")
		known("c", true, "it is heard, although it leaves")
		silence()
		known("b", true, "it is dead for less than an hour")
		known("c", false, "its last beats said that it leaves")

		time.Sleep(50 * time.Minute)
		j.adopt([]cluster.Member{b})
		j.adopt(nil)
		time.Sleep(59 * time.Minute)
		known("b", true, "gossip knew it less than an hour ago")
		j.news = false
		time.Sleep(2 * time.Minute)
		known("b", false, "gossip does not know it for more than an hour")
		if !j.news {
			t.Error("that is no news")
		}

		b.Leaving = true
		j.adopt([]cluster.Member{b})
		known("b", true, "gossip names it")
		j.adopt(nil)
		known("b", false, "gossip said that it leaves")
	})
}

func TestAReaderEmptiesItsSocket(t *testing.T) {
	judging(t, func(t *testing.T, j *judge) {
		plain, err := encode(says("b", 1, 0, false).beat)
		if err != nil {
			t.Fatal(err)
		}
		s := sealer{ring: j.b.o.Ring}
		datagram, err := s.seal(plain)
		if err != nil {
			t.Fatal(err)
		}
		conn := j.b.o.Conns[0]
		for range 5 {
			if _, err := conn.WriteTo(datagram, conn.LocalAddr()); err != nil {
				t.Fatal(err)
			}
		}
		events := make(chan event, 10)
		r := &reader{b: j.b, conn: conn, sealer: s, events: events}
		if err := r.drain(t.Context()); err != nil || len(events) != 5 {
			t.Errorf("%d of 5 datagrams were read (%v)", len(events), err)
		}
		if !conn.(*sock).read.IsZero() {
			t.Error("the socket has a deadline afterwards")
		}
	})
}
