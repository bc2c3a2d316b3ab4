package answer

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netns"

	"tunneldirector/director/agent"
	"tunneldirector/integration/spaces"
	"tunneldirector/realserver/space"
)

func TestAnswersAsTheVIP(t *testing.T) {
	dir, rs := lab(t)
	r := start(t, Options{Space: rs.space()})
	for _, vip := range []netip.Addr{vip4, vip6} {
		a := dir.ask(vip, agent.ProbeTTL)
		q, nonce := a.question()
		got, err := a.answer(q, 5*time.Second)
		must(t, err)
		if d := cmp.Diff(agent.Answer{Nonce: nonce, Health: agent.HealthWorking, Tunnels: 7, RealServer: "rs1"}, got); d != "" {
			t.Errorf("%v: %s", vip, d)
		}
		r.Set(map[string]State{"rs1": {Health: agent.HealthDead, Full: true}})
		if got := a.now(); got.Health != agent.HealthDead || !got.Full {
			t.Errorf("%v: %+v, want the new state", vip, got)
		}
		r.Set(map[string]State{"rs1": {Health: agent.HealthWorking, Tunnels: 7}})
	}
	if c := answered(r, 4); c.Answered != 4 || c.WrongWay != 0 {
		t.Errorf("counts %+v", c)
	}
}

func TestWay(t *testing.T) {
	for _, tt := range []struct {
		method, by string
		wrong      bool
	}{{"dr", "rs0", false}, {"dr", "rs1", true}, {"tunnel", "rs1", false}, {"tunnel", "rs0", true}} {
		t.Run(tt.method+" by "+tt.by, func(t *testing.T) {
			dir, rs := lab(t)
			dir.by(tt.by)
			r := start(t, Options{Space: rs.space(), Method: tt.method})
			for _, vip := range []netip.Addr{vip4, vip6} {
				if got := dir.ask(vip, agent.ProbeTTL).heard(5 * time.Second); got.WrongWay != tt.wrong {
					t.Errorf("%v: %+v", vip, got)
				}
			}
			if c := answered(r, 2); c.WrongWay > 0 != tt.wrong {
				t.Errorf("counts %+v", c)
			}
		})
	}
}

// answered waits for so many answers to be counted, which is after they were sent.
func answered(r *Responder, n uint64) (c Counts) {
	for from := time.Now(); time.Since(from) < 5*time.Second; time.Sleep(time.Millisecond) {
		if c = r.Counts(); c.Answered >= n {
			break
		}
	}
	return c
}

// What a site can send, and what is no question, wakes nobody.
func TestNothingButProbes(t *testing.T) {
	dir, rs := lab(t)
	r := start(t, Options{Space: rs.space()})
	for n, vip := range []netip.Addr{vip4, vip6} {
		before := uint64(n)
		far, near := dir.ask(vip, agent.ProbeTTL-1), dir.ask(vip, agent.ProbeTTL)
		q, _ := near.question()
		far.silent("a question from behind a router", q)
		near.silent("nothing", nil)
		near.silent("a short one", q[:agent.ProbeSize-1])
		near.silent("a long one", append(bytes.Clone(q), 0))
		near.silent("another format", append([]byte("TDp2"), q[4:]...))
		near.silent("an answer", agent.Answer{RealServer: "rs1"}.Append(nil))
		if c := r.Counts(); c.Answered != before || c.Nobody+c.Failed != 0 {
			t.Errorf("%v: counts %+v", vip, c)
		}
		near.silent("what passes the filter alone", append(bytes.Clone(q[:len(q)-1]), 1))
		near.now()
		if c := answered(r, before+1); c.Answered != before+1 || c.Unread < 6*(before+1) {
			t.Errorf("%v: counts %+v", vip, c)
		}
	}
}

// The VIP may come later, go, and come back, and so may the interface.
func TestFlaps(t *testing.T) {
	dir, rs := lab(t)
	rs.address("lo", "198.51.100.1/32", false)
	rs.address("lo", "2001:db8:1::1/128", false)
	start(t, Options{Space: rs.space()})
	for vip, prefix := range map[netip.Addr]string{vip4: "198.51.100.1/32", vip6: "2001:db8:1::1/128"} {
		a := dir.ask(vip, agent.ProbeTTL)
		for range 2 {
			q, _ := a.question()
			if got, err := a.answer(q, patience); err == nil {
				t.Errorf("answered without the VIP: %+v", got)
			}
			rs.address("lo", prefix, true)
			a.heard(15 * time.Second)
			rs.address("lo", prefix, false)
		}
		rs.address("lo", prefix, true)
		rs.up("eth0", false)
		rs.up("lo", false)
		time.Sleep(patience / 3)
		rs.up("lo", true)
		rs.up("eth0", true)
		rs.address("eth0", "2001:db8::1:11/112", true) // went with the interface
		if vip == vip6 {
			rs.address("lo", prefix, true)
		}
		a.heard(15 * time.Second)
	}
}

// A named namespace is deleted and made anew.
func TestNamespaceMadeAnew(t *testing.T) {
	spaces.Root(t)
	name := fmt.Sprintf("answer-test-%d", os.Getpid())
	dir := newHost(t)
	var r *Responder
	for life := range 2 {
		rs := &host{t: t}
		apart(t, func() (err error) { rs.ns, err = netns.NewNamed(name); return err })
		t.Cleanup(func() { _ = netns.DeleteNamed(name) })
		rs.open()
		wire(t, dir, "rs0", rs, "eth0")
		wire(t, dir, "rs1", rs, "decap0")
		join(dir, rs)
		rs.address("lo", "198.51.100.1/32", true)
		if life == 0 {
			r = start(t, Options{Space: space.Space(name), VIPs: []netip.Addr{vip4}})
		}
		r.Set(map[string]State{"rs1": {Health: agent.HealthWorking, Tunnels: uint32(life)}})
		if a := dir.ask(vip4, agent.ProbeTTL).heard(10 * lookEvery); a.Tunnels != uint32(life) {
			t.Errorf("life %d: %+v", life, a)
		}
		for _, l := range []string{"rs0", "rs1"} {
			link, err := dir.link.LinkByName(l)
			must(t, err)
			must(t, dir.link.LinkDel(link))
		}
		must(t, netns.DeleteNamed(name))
		rs.ns.Close()
	}
}

// More questions than the rate are not read.
func TestRate(t *testing.T) {
	const perSecond = 200
	dir, rs := lab(t)
	r := start(t, Options{Space: rs.space(), Rate: perSecond})
	a := dir.ask(vip4, agent.ProbeTTL)
	q, _ := a.question()
	from := time.Now()
	if r.Flooded() {
		t.Error("a flood before any question")
	}
	for time.Since(from) < time.Second {
		_, err := a.conn.WriteToUDPAddrPort(q, a.to)
		must(t, err)
	}
	least := time.Since(from).Seconds()
	c := r.Counts()
	most := time.Since(from).Seconds()
	if float64(c.Answered) > perSecond*(most+0.2) || float64(c.Answered) < perSecond*least/2 || c.Unread == 0 {
		t.Errorf("in %.1f s: %+v", most, c)
	}
	if !r.Flooded() {
		t.Error("questions are dropped, and nobody is told of a flood")
	}
	time.Sleep(patience) // what waits is read
	dir.ask(vip4, agent.ProbeTTL).heard(5 * time.Second)
}

func TestPortTakenAndGivenBack(t *testing.T) {
	_, rs := lab(t)
	o := Options{Space: rs.space(), VIPs: []netip.Addr{vip4, vip6}, Method: "dr", Log: slog.New(slog.NewTextHandler(io.Discard, nil))}
	for range 3 {
		r, err := Open(o)
		must(t, err)
		if again, err := Open(o); err == nil {
			t.Fatalf("opened twice: %v", again)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- r.Run(ctx) }()
		cancel()
		must(t, <-done)
	}
	o.Space = "/nowhere/at/all"
	if _, err := Open(o); err == nil {
		t.Error("opened in no namespace")
	}
}
