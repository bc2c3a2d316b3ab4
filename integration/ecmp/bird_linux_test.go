package ecmp

import (
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"tunneldirector/director/vip"
)

// byBFD is less than the examples' hold time, 9 s, takes without BFD: a keepalive came 3 s ago at most.
const byBFD = 5 * time.Second

// Two directors hold the same VIPs and nobody is told: the router knows both by BGP, spreads over them, and leaves one out as soon
// as it is dead, or hangs, or its router does.
func TestBIRD(t *testing.T) {
	r := newRig(t)
	for _, d := range r.directors {
		r.hold(d)
	}
	begin := time.Now()
	r.birds()
	t.Logf("from the start of BIRD to two next hops: %v", r.until(begin, 30*time.Second, "11", "12"))
	r.spread()

	d1, d2 := r.directors[0], r.directors[1]
	begin = time.Now()
	d1.hangs.Store(true)
	took := r.until(begin, lifetime+20*time.Second, "12")
	t.Logf("a director hangs, its VIPs have a lifetime of %v: out after %v", lifetime, took)
	d1.hangs.Store(false)
	time.Sleep(2 * vip.RenewEvery) // renewing alone does not bring it back
	if hops := r.nextHops(vip4); slices.Contains(hops, "192.0.2.11") {
		t.Errorf("a director that hung is a next hop again without having decided anything: %v", hops)
	}
	begin = time.Now()
	r.decide(d1)
	t.Logf("it holds them again: in after %v", r.until(begin, 20*time.Second, "11", "12"))

	begin = time.Now()
	must(t, d2.bird.Process.Signal(syscall.SIGSTOP))
	took = r.until(begin, byBFD, "11")
	t.Logf("a director's BIRD is stopped: out by BFD after %v", took)
	must(t, d2.bird.Process.Signal(syscall.SIGCONT))
	begin = time.Now()
	t.Logf("it goes on: in after %v", r.until(begin, 30*time.Second, "11", "12"))

	begin = time.Now()
	d1.space.Down("eth0")
	t.Logf("a director's link is down: out after %v", r.until(begin, byBFD, "12"))
	d1.space.Up("eth0")
	d1.space.Give("eth0", "2001:db8::11/64") // which Linux takes away with the link
	d1.space.Route("0.0.0.0/0", "192.0.2.1")
	d1.space.Route("::/0", "2001:db8::1")
	begin = time.Now()
	t.Logf("it is up: in after %v", r.until(begin, 30*time.Second, "11", "12"))

	begin = time.Now()
	must(t, d2.bird.Process.Kill())
	t.Logf("a director's BIRD is killed: out after %v", r.until(begin, 20*time.Second, "11"))
}

// spread sends flows to each VIP, and each flow comes to one of the directors, which count what they close.
func (r *rig) spread() {
	r.t.Helper()
	const flows = 64
	for _, a := range vips {
		r.until(time.Now(), 30*time.Second, "11", "12")
		before := r.dropped()
		r.sites.Do(func() {
			for range flows {
				c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, 500)))
				must(r.t, err)
				defer c.Close() // at the end, so that each has a port of its own
				_, err = c.Write([]byte("?"))
				must(r.t, err)
			}
		})
		deadline := time.Now().Add(10 * time.Second)
		for {
			now := r.dropped()
			got := [2]uint64{now[0] - before[0], now[1] - before[1]}
			if got[0]+got[1] == flows && min(got[0], got[1]) >= flows/8 {
				r.t.Logf("of %d flows to %v the directors have %v", flows, a, got)
				break
			}
			if time.Now().After(deadline) {
				r.t.Fatalf("of %d flows to %v the directors have %v", flows, a, got)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
}

func (r *rig) dropped() (n [2]uint64) {
	r.t.Helper()
	for i, d := range r.directors {
		x, err := d.filter.Dropped()
		must(r.t, err)
		n[i] = x.Input
	}
	return n
}
