package observe

import (
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tunneldirector/director/agent"
)

// What is at no VIP of its real server is left out, and told again once it is at one.
func TestTunnelsElsewhere(t *testing.T) {
	inTalk(t, func(b *talk) {
		var at atomic.Pointer[[]netip.Addr]
		set := func(vips ...netip.Addr) { at.Store(&vips) }
		set(vips[0])
		b.o.VIPs = func(string) []netip.Addr { return *at.Load() }
		here, there, anywhere := tunnel(1), tunnel(2), tunnel(3)
		there.Local, anywhere.Local = vips[1], netip.Addr{}
		p, _ := b.hail("one", "rs1")
		p.alive()
		tell := func(r agent.Report, want int) {
			t.Helper()
			r.RealServer = "rs1"
			p.send(agent.Message{Report: &r})
			synctest.Wait()
			if a, _ := b.Agent("rs1"); a.Tunnels != want {
				t.Errorf("%d tunnels; wanted %d", a.Tunnels, want)
			}
		}
		whole := agent.Report{Seq: 1, Whole: true, First: true, Last: true, Up: []agent.Tunnel{here, there, anywhere}}
		tell(whole, 2)
		moved := here
		moved.Local = vips[1]
		tell(agent.Report{Seq: 2, Up: []agent.Tunnel{moved}}, 1)
		tell(agent.Report{Seq: 3, Up: []agent.Tunnel{here}}, 2)
		time.Sleep(time.Minute)
		if a, _ := b.Agent("rs1"); !a.Connected {
			t.Fatal("the stream ended, and nothing changed")
		}
		set(vips...)
		p.over(agent.Patience, "VIPs of real server rs1 have changed")
		p, m := b.hail("one", "rs1")
		if known := m.Welcome.Known["rs1"]; known != 0 {
			t.Errorf("it is to go on after %d", known)
		}
		p.alive()
		whole.Seq = 4
		tell(whole, 3)
		set([]netip.Addr{}...)
		time.Sleep(time.Minute)
		if a, _ := b.Agent("rs1"); !a.Connected || a.Tunnels != 3 {
			t.Errorf("nothing was left out, and now: %+v", a)
		}
		set() // nobody knows
		tell(agent.Report{Seq: 5, Up: []agent.Tunnel{there}}, 3)
	})
}
