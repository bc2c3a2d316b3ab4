package observe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tunneldirector/director/agent"
)

// A talk is a Book that agents speak to, in virtual time.
type talk struct {
	*Book
	t   *testing.T
	o   Options
	log strings.Builder        // to be read when all is at rest
	no  atomic.Pointer[string] // a real server that nobody may speak for
}

func inTalk(t *testing.T, f func(*talk)) {
	synctest.Test(t, func(t *testing.T) {
		b := &talk{Book: NewBook(nil), t: t}
		b.forbid("")
		b.o = Options{Name: "d1", Log: slog.New(slog.NewTextHandler(&b.log, nil)), Differs: func(agent.Server) []string { return nil }, May: func(_ string, s agent.Server) error {
			if s.Name == *b.no.Load() {
				return errors.New("it is not yours")
			}
			return nil
		}}
		f(b)
	})
}

func (b *talk) forbid(realServer string) { b.no.Store(&realServer) }

// A peer is an agent's end of a stream.
type peer struct {
	t    *testing.T
	conn *agent.Conn
	done chan error // what Talk returned
	ears sync.Once
}

// dial begins a stream and says nothing.
func (b *talk) dial() *peer {
	near, far := net.Pipe()
	p := &peer{t: b.t, conn: agent.NewConn(near), done: make(chan error, 1)}
	go func() { p.done <- b.Talk(b.t.Context(), far, "host", b.o) }()
	b.t.Cleanup(func() { _ = p.conn.Close() })
	return p
}

// hail begins a stream as an instance that speaks for real servers, and is what it is told.
func (b *talk) hail(instance string, names ...string) (*peer, agent.Message) {
	b.t.Helper()
	p := b.dial()
	p.send(agent.Message{Hello: hello(instance, names...)})
	m, err := p.conn.Receive()
	if err != nil {
		b.t.Fatal(err)
	}
	return p, m
}

func (p *peer) send(m agent.Message) {
	p.t.Helper()
	if err := p.conn.Send(m); err != nil {
		p.t.Fatal(err)
	}
}

// over wants the stream to end, for a cause that has these words, within a time.
func (p *peer) over(within time.Duration, words string) {
	p.t.Helper()
	p.listen()
	from := time.Now()
	select {
	case err := <-p.done:
		if err == nil || !strings.Contains(err.Error(), words) {
			p.t.Errorf("the stream ended: %v; wanted %q", err, words)
		}
	case <-time.After(time.Hour):
		p.t.Fatal("the stream goes on")
	}
	if d := time.Since(from); d > within {
		p.t.Errorf("the stream ended after %v; wanted it within %v", d, within)
	}
}

// listen takes what comes.
func (p *peer) listen() {
	p.ears.Do(func() {
		go func() {
			for {
				if _, err := p.conn.Receive(); err != nil {
					return
				}
			}
		}()
	})
}

// speak says something now and then.
func (p *peer) speak() {
	go func() {
		for p.conn.Send(agent.Message{}) == nil && p.t.Context().Err() == nil {
			select {
			case <-time.After(agent.Patience / 3):
			case <-p.t.Context().Done():
			}
		}
	}()
}

func (p *peer) alive() {
	p.speak()
	p.listen()
}

func TestStreamsThatEnd(t *testing.T) {
	report := func(rs string) agent.Message {
		return agent.Message{Report: &agent.Report{RealServer: rs, Seq: 1, Whole: true, First: true, Last: true}}
	}
	for _, c := range []struct {
		name   string
		says   agent.Message
		within time.Duration
		words  string
	}{
		{"a second hello", agent.Message{Hello: hello("one", "rs1")}, 0, "a second hello"},
		{"a report about another's", report("rs2"), 0, "does not speak for it"},
		{"a report about nobody's", report("nobody"), 0, "does not speak for it"},
		{"a status of another's", agent.Message{Status: &agent.Status{RealServer: "rs2"}}, 0, "does not speak for it"},
		{"silence", agent.Message{}, agent.Patience, "timeout"},
		{"progress of another's, and silence", agent.Message{Progress: &agent.Progress{RealServer: "rs2"}}, agent.Patience, "timeout"},
	} {
		t.Run(c.name, func(t *testing.T) {
			inTalk(t, func(b *talk) {
				other, _ := b.hail("other", "rs2")
				other.alive()
				p, _ := b.hail("one", "rs1")
				p.send(c.says)
				p.over(c.within, c.words)
				synctest.Wait()
				if a, _ := b.Agent("rs1"); a.Connected || b.Heard("rs1") != (time.Time{}) {
					t.Errorf("it still speaks: %+v", a)
				}
				if a, _ := b.Agent("rs2"); !a.Connected {
					t.Error("another's stream ended with it")
				}
			})
		})
	}
}

// TestFoundAsBefore: what is left out of a status is as it was; what is not said to be left out is not there.
func TestFoundAsBefore(t *testing.T) {
	inTalk(t, func(b *talk) {
		p, _ := b.hail("one", "rs1")
		p.alive()
		for _, step := range []struct {
			name string
			says agent.Status
			want int
		}{
			{"none before", agent.Status{FoundAsBefore: true}, 0},
			{"two", agent.Status{Found: []agent.Finding{{ID: "a"}, {ID: "b"}}}, 2},
			{"left out", agent.Status{FoundAsBefore: true}, 2},
			{"left out again", agent.Status{FoundAsBefore: true, Tunnels: 7}, 2},
			{"mended", agent.Status{}, 0},
			{"left out", agent.Status{FoundAsBefore: true}, 0},
		} {
			step.says.RealServer = "rs1"
			p.send(agent.Message{Status: &step.says})
			synctest.Wait()
			a, _ := b.Agent("rs1")
			if len(a.Status.Found) != step.want || a.Status.FoundAsBefore || a.Status.Tunnels != step.says.Tunnels {
				t.Errorf("%s: %+v, want %d found", step.name, a.Status, step.want)
			}
		}
	})
}

func TestNoHello(t *testing.T) {
	inTalk(t, func(b *talk) {
		b.dial().over(agent.Patience, "wait for hello")
		p := b.dial()
		p.send(agent.Message{Status: &agent.Status{RealServer: "rs1"}})
		p.over(0, "not a hello")
		p = b.dial()
		p.send(agent.Message{Hello: &agent.Hello{Instance: "i"}})
		p.over(0, "names no format")
		p = b.dial()
		p.send(agent.Message{Hello: hello("i")})
		p.over(0, "none of its real servers")
		if n := len(b.Agents()); n != 0 {
			t.Errorf("%d agents are known", n)
		}
	})
}

// Who is refused is told so, however long the reasons are together.
func TestRefusedIsTold(t *testing.T) {
	inTalk(t, func(b *talk) {
		var names []string
		for i := range agent.MaxServers {
			names = append(names, fmt.Sprintf("real-server-with-a-long-name-%02d", i))
		}
		b.o.May = func(_ string, s agent.Server) error { return fmt.Errorf("there is no real server %q here", s.Name) }
		p, m := b.hail("one", names...)
		if m.Refused == nil || !strings.Contains(m.Refused.Why, "may speak for none") {
			t.Errorf("told %+v", m)
		}
		p.over(0, "none of its real servers")
	})
}

func TestRealServerThatComesLater(t *testing.T) {
	inTalk(t, func(b *talk) {
		b.forbid("rs2")
		p, m := b.hail("one", "rs1", "rs2")
		if m.Welcome == nil || m.Welcome.Refused["rs2"] == "" || len(m.Welcome.Known) != 1 {
			t.Fatalf("told %+v", m)
		}
		if _, known := b.Agent("rs2"); known {
			t.Error("what it may not speak for is known")
		}
		p.send(agent.Message{Report: &agent.Report{RealServer: "rs1", Seq: 7, Whole: true, First: true, Last: true, Up: tunnels(0, 3)}})
		p.over(agent.Patience, "")
		b.forbid("")
		p, m = b.hail("one", "rs1", "rs2")
		if m.Welcome == nil || len(m.Welcome.Refused) != 0 || m.Welcome.Known["rs1"] != 7 || m.Welcome.Known["rs2"] != 0 {
			t.Errorf("told %+v", m)
		}
		p.alive()
		synctest.Wait()
		b.forbid("rs1") // given to another host, or deleted
		p.over(agent.Patience, "not yours")
		synctest.Wait()
		if a, _ := b.Agent("rs1"); a.Connected {
			t.Error("it speaks for what is not its own any more")
		}
	})
}

func TestTwoInstances(t *testing.T) {
	inTalk(t, func(b *talk) {
		first, _ := b.hail("one", "rs1", "rs2")
		first.alive()
		time.Sleep(time.Minute)
		second, m := b.hail("two", "rs1")
		if m.Refused == nil || !strings.Contains(m.Refused.Why, "another agent") {
			t.Errorf("the second one was told %+v", m)
		}
		second.over(0, "another agent")
		third, m := b.hail("three", "rs1", "rs3")
		if m.Welcome == nil || m.Welcome.Refused["rs1"] == "" || len(m.Welcome.Known) != 1 {
			t.Errorf("one with a real server of its own, too, was told %+v", m)
		}
		third.alive()
		if a, _ := b.Agent("rs1"); !a.Connected {
			t.Error("the first one was disturbed")
		}
		_ = first.conn.Close()
		synctest.Wait()
		if _, m := b.hail("two", "rs1"); m.Welcome == nil {
			t.Errorf("after the first one is gone the second was told %+v", m)
		}
		if a, _ := b.Agent("rs3"); !a.Connected {
			t.Error("the third one was disturbed")
		}
	})
}

func TestInstanceThatComesAgain(t *testing.T) {
	inTalk(t, func(b *talk) {
		first, _ := b.hail("one", "rs1")
		first.send(agent.Message{Report: &agent.Report{RealServer: "rs1", Seq: 3, Whole: true, First: true, Last: true, Up: tunnels(0, 3)}})
		synctest.Wait()
		second, m := b.hail("one", "rs1")
		if m.Welcome == nil || m.Welcome.Known["rs1"] != 3 {
			t.Errorf("told %+v", m)
		}
		second.alive()
		first.over(0, "come again")
		synctest.Wait()
		if a, _ := b.Agent("rs1"); !a.Connected || a.Tunnels != 3 || !a.Whole {
			t.Errorf("the end of the old stream ended more: %+v", a)
		}
		second.send(agent.Message{Report: &agent.Report{RealServer: "rs1", Seq: 4, Down: []string{"peer 1"}}})
		synctest.Wait()
		if a, _ := b.Agent("rs1"); a.Tunnels != 2 {
			t.Errorf("after its changes: %+v", a)
		}
	})
}

// An agent that does not read loses its stream, nobody waits for it, and it is told on the next one.
func TestAgentThatDoesNotRead(t *testing.T) {
	inTalk(t, func(b *talk) {
		p, _ := b.hail("one", "rs1")
		synctest.Wait()
		from := time.Now()
		for i := range lineQueue + 10 {
			b.Order("rs1", agent.OrderAdopt, heirs(fmt.Sprint("tunnel ", i)))
		}
		if d := time.Since(from); d != 0 {
			t.Errorf("the director waited for %v", d)
		}
		p.speak()
		select {
		case <-p.done:
		case <-time.After(2 * agent.Patience):
			t.Fatal("the stream goes on")
		}
		again, _ := b.hail("one", "rs1")
		n := 0
		for n < lineQueue+10 {
			m, err := again.conn.Receive()
			if err != nil || m.Order == nil {
				t.Fatalf("after %d: %+v, %v", n, m, err)
			}
			n += len(m.Order.Tunnels)
		}
	})
}

// An agent that reads, and not fast enough, loses its stream rather than a message.
func TestAgentThatReadsSlowly(t *testing.T) {
	inTalk(t, func(b *talk) {
		p, _ := b.hail("one", "rs1")
		p.speak()
		synctest.Wait() // it was told what is open
		for i := range 2 * lineQueue {
			b.Order("rs1", agent.OrderAdopt, heirs(fmt.Sprint("tunnel ", i)))
		}
		for n := 0; ; n++ {
			if _, err := p.conn.Receive(); err != nil {
				break
			}
			if n > 100 {
				t.Fatalf("%d messages were sent on a stream that lost some", n)
			}
			time.Sleep(time.Second)
		}
		if err := <-p.done; err == nil || !strings.Contains(err.Error(), "does not take") {
			t.Error(err)
		}
	})
}

func TestShutdown(t *testing.T) {
	inTalk(t, func(b *talk) {
		ctx, cancel := context.WithCancel(b.t.Context())
		near, far := net.Pipe()
		done := make(chan error, 1)
		go func() { done <- b.Talk(ctx, far, "host", b.o) }()
		p := &peer{t: t, conn: agent.NewConn(near)}
		p.send(agent.Message{Hello: hello("one", "rs1")})
		if _, err := p.conn.Receive(); err != nil {
			t.Fatal(err)
		}
		from := time.Now()
		cancel()
		<-done
		if time.Since(from) != 0 {
			t.Errorf("it took %v", time.Since(from))
		}
		if _, err := p.conn.Receive(); err == nil {
			t.Error("the stream is open")
		}
	})
}
