package probe

import (
	"net/netip"
	"testing"
	"time"

	"tunneldirector/affinity"
)

// When all fall silent at once, the first to be found dead finds nobody answering beside it (design rule 8), although
// none of the others is known to be dead yet.
func TestAnsweringWhenAllFallSilent(t *testing.T) {
	play(t, affinity.Check{}, func(s *stage, p *Prober) {
		expect(t, p, true, time.Second, "ARP")
		var targets []Target
		for i := range 20 {
			targets = append(targets, Target{Index: affinity.Index(i + 1), Name: "rs", Addrs: []netip.Addr{rs4}})
		}
		p.Set(targets)
		for range len(targets) {
			<-p.Events()
		}
		if n, of := p.Answering(); n != 20 || of != 20 {
			t.Fatalf("%d of %d answer, want all 20", n, of)
		}
		for range 10 { // in whatever phase of the rounds
			time.Sleep(33 * time.Millisecond)
			s.now(func() { s.arp = false })
			if e := <-p.Events(); e.Alive {
				t.Fatalf("event %+v, want a death", e)
			}
			if n, _ := p.Answering(); n != 0 {
				t.Fatalf("%d answer at the first verdict, want none", n)
			}
			for range len(targets) - 1 {
				<-p.Events()
			}
			s.now(func() { s.arp = true })
			for range targets {
				<-p.Events()
			}
		}
	})
}
