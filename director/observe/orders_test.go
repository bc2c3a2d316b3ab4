package observe

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"tunneldirector/director/agent"
)

// sendable tells why a message would break a stream.
func sendable(m agent.Message) error {
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	go func() { _, _ = agent.NewConn(far).Receive() }()
	return agent.NewConn(near).Send(m)
}

// heirs are tunnels of an order, by id.
func heirs(ids ...string) (out []agent.Inherited) {
	for _, id := range ids {
		out = append(out, agent.Inherited{ID: id, Peer: "peer of " + id})
	}
	return out
}

// sent are the orders that wait to be sent, in words.
func (s *stand) sent() (out []string) {
	for {
		select {
		case m := <-s.line.out:
			if m.Order == nil {
				continue
			}
			words := m.Order.Kind.String()
			for _, x := range m.Order.Tunnels {
				words += " " + x.ID
			}
			out = append(out, words)
		default:
			return out
		}
	}
}

func (s *stand) answer(kind agent.OrderKind, id string, o agent.Outcome) {
	s.progress(s.line, &agent.Progress{RealServer: "rs1", Kind: kind, Tunnels: []agent.Step{{ID: id, Outcome: o, Why: "because"}}})
}

// stands is how an order stands: -1 is not there.
func (s *stand) stands(kind agent.OrderKind, id string) int {
	e, ok := s.Errand("rs1", kind, id)
	listed := 0
	for _, x := range s.Errands("rs1") {
		if x.Kind == kind && x.Tunnel.ID == id {
			listed++
			if x.Outcome != e.Outcome || x.Why != e.Why || !x.Changed.Equal(e.Changed) {
				s.t.Errorf("%+v is listed as %+v", e, x)
			}
		}
	}
	if ok != (listed == 1) || listed > 1 {
		s.t.Errorf("order %v %s: %v, listed %d times", kind, id, ok, listed)
	}
	if !ok {
		return -1
	}
	return int(e.Outcome)
}

func TestOrders(t *testing.T) {
	const adopt, release = agent.OrderAdopt, agent.OrderRelease
	s := newStand(t)
	s.Order("rs1", adopt, heirs("early")) // before its Welcome
	if got := s.sent(); got != nil {
		t.Errorf("sent before the welcome: %q", got)
	}
	s.begin(s.line)
	want := func(what string, words ...string) {
		t.Helper()
		if got := s.sent(); fmt.Sprint(got) != fmt.Sprint(words) {
			t.Errorf("%s: sent %q, wanted %q", what, got, words)
		}
	}
	stands := func(what string, kind agent.OrderKind, id string, outcome int) {
		t.Helper()
		if got := s.stands(kind, id); got != outcome {
			t.Errorf("%s: the order to %v %s stands at %d, wanted %d", what, kind, id, got, outcome)
		}
	}
	want("at the beginning", "adopt early")
	s.Order("rs1", adopt, heirs("a", "b"))
	want("ordered", "adopt a b")
	s.answer(adopt, "a", agent.OutcomeDone)
	s.answer(adopt, "nobody", agent.OutcomeDone)
	s.answer(adopt, "b", 77)
	s.answer(release, "b", agent.OutcomeDone)
	stands("answered", adopt, "a", int(agent.OutcomeDone))
	stands("answered nonsense", adopt, "b", 0)
	s.Order("rs1", adopt, heirs("a"))
	stands("ordered anew", adopt, "a", 0)
	want("ordered anew", "adopt a")
	s.Order("rs1", release, heirs("a"))
	stands("released", adopt, "a", -1)
	want("release of what was to be adopted", "forget a", "release a")
	s.Order("rs1", adopt, heirs("a"))
	stands("adopted after all", release, "a", -1)
	want("adopted after all", "adopt a")
	s.answer(adopt, "early", agent.OutcomeWaiting)
	s.join("one")
	s.begin(s.line)
	want("sent again", "adopt a b")
	other := newLine(nil, "host", "two")
	s.progress(other, &agent.Progress{RealServer: "rs1", Kind: adopt, Tunnels: []agent.Step{{ID: "b", Outcome: agent.OutcomeDone}}})
	stands("another's word", adopt, "b", 0)
	if a, _ := s.Agent("rs1"); a.Orders != (OrderCount{Open: 2, Waiting: 1}) {
		t.Errorf("counted: %+v", a.Orders)
	}
	s.Order("rs1", adopt, nil)
	want("nothing")
}

// Orders grow old whether anybody speaks or not.
func TestOrdersGrowOld(t *testing.T) {
	for _, silent := range []bool{false, true} {
		t.Run(fmt.Sprint("silent ", silent), func(t *testing.T) {
			s := newStand(t)
			s.begin(s.line)
			s.Order("rs1", agent.OrderAdopt, heirs("a", "b"))
			s.answer(agent.OrderAdopt, "a", agent.OutcomeDone)
			if silent {
				s.leave(s.line)
			}
			pass := func(d time.Duration) {
				s.at = s.at.Add(d)
				if !silent {
					if err := s.note(s.line, &agent.Status{RealServer: "rs1"}); err != nil {
						t.Fatal(err)
					}
				}
			}
			pass(orderLives)
			if a, b := s.stands(agent.OrderAdopt, "a"), s.stands(agent.OrderAdopt, "b"); a != int(agent.OutcomeDone) || b != 0 {
				t.Errorf("after %v: %d, %d", orderLives, a, b)
			}
			pass(time.Second)
			if a, b := s.stands(agent.OrderAdopt, "a"), s.stands(agent.OrderAdopt, "b"); a != -1 || b != int(agent.OutcomeFailed) {
				t.Errorf("a second later: %d, %d", a, b)
			}
			pass(remember + time.Second)
			if b := s.stands(agent.OrderAdopt, "b"); b != -1 {
				t.Errorf("after all that: %d", b)
			}
			s.Order("rs2", agent.OrderAdopt, heirs("c")) // whatever happens, it is cleaned up then
			if n := len(s.servers["rs1"].orders.of); n != 0 {
				t.Errorf("%d old orders are kept", n)
			}
			if a, _ := s.Agent("rs1"); a.Orders != (OrderCount{}) {
				t.Errorf("counted: %+v", a.Orders)
			}
			if silent {
				s.join("one")
				s.begin(s.line)
				if got := s.sent(); got != nil {
					t.Errorf("old orders are sent: %q", got)
				}
			}
		})
	}
}

// What grew old since the last look at all orders is not sent, either.
func TestOldOrderIsNotSentAgain(t *testing.T) {
	s := newStand(t)
	s.Order("rs1", agent.OrderAdopt, heirs("a"))
	s.at = s.at.Add(orderLives - 20*time.Second)
	s.join("one")
	s.begin(s.line)
	if got := s.sent(); len(got) != 1 {
		t.Errorf("in its time: sent %q", got)
	}
	s.at = s.at.Add(40 * time.Second)
	s.join("one")
	s.begin(s.line)
	if got := s.sent(); len(got) != 0 {
		t.Errorf("after its time: sent %q", got)
	}
}

// An order of tunnels with as much to say as there may be fits into frames, and nothing is left out.
func TestBigOrders(t *testing.T) {
	s := newStand(t)
	s.begin(s.line)
	list := make([]agent.Inherited, 3000)
	for i := range list {
		list[i] = agent.Inherited{ID: fmt.Sprintf("%0128d", i), Peer: strings.Repeat("p", agent.MaxText), Local: vips[1], Endpoint: netip.AddrPortFrom(sites[2], 4500), Bandwidth: 1 << 60}
		for j := range agent.MaxSubnets {
			list[i].Subnets = append(list[i].Subnets, netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, byte(i >> 8), byte(i), byte(j), 1}), 64))
		}
	}
	s.Order("rs1", agent.OrderAdopt, list)
	for n := 0; ; {
		select {
		case m := <-s.line.out:
			n += len(m.Order.Tunnels)
			if err := sendable(m); err != nil {
				t.Fatal(err)
			}
			continue
		default:
		}
		if n != len(list) {
			t.Errorf("%d of %d were sent", n, len(list))
		}
		return
	}
}
