package ipvs

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
	"tunneldirector/director/plane/ipvs/inject"
)

var (
	vip4  = netip.MustParseAddr("192.0.2.10")
	site1 = netip.MustParseAddr("203.0.113.1")
	site2 = netip.MustParseAddr("203.0.113.2")
)

// small is a service with IKE, ESP and NAT-T, and three real servers that live.
func small() plane.Config {
	c := plane.Config{Services: []plane.Service{{Num: 1, Name: "ipsec", VIPs: []netip.Addr{vip4},
		Match: []affinity.Match{{Proto: protoESP}, {Proto: protoUDP, Lo: 500, Hi: 500}, {Proto: protoUDP, Lo: 4500, Hi: 4500}}}}}
	for i := range 3 {
		c.RealServers = append(c.RealServers, plane.RealServer{Index: affinity.Index(i + 1), Name: fmt.Sprintf("rs%d", i+1),
			Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 9, 0, byte(i + 1)})}, Alive: true})
	}
	return c
}

// smallBy is small with one method to all real servers.
func smallBy(m affinity.Method) plane.Config {
	c := small()
	for i := range c.RealServers {
		c.RealServers[i].Method = m
	}
	return c
}

func pin(a netip.Addr, port uint16, primary, backup affinity.Index) plane.Entry {
	return plane.Entry{Endpoint: plane.EndpointKey{VIP: vip4, Addr: a, Port: port}, Target: plane.Target{Primary: primary, Backup: backup}}
}

func cut(e plane.Entry) plane.Entry {
	e.Delete = true
	return e
}

// esp is a packet of ESP from a.
func esp(a netip.Addr) plane.Packet {
	return plane.Packet{Interface: "tun0", Src: a, Dst: vip4, Proto: protoESP, Hops: 64}
}

func natt(a netip.Addr, port uint16) plane.Packet {
	return plane.Packet{Interface: "tun0", Src: a, Dst: vip4, Proto: protoUDP, SrcPort: port, DstPort: 4500, Hops: 64}
}

// scene is a plane over a kernel with some pins.
func scene(t *testing.T, entries ...plane.Entry) (*Plane, *kernel) {
	t.Helper()
	k := newKernel()
	p := open(k)
	if err := p.Replace(t.Context(), small(), slices.Values(entries)); err != nil {
		t.Fatal(err)
	}
	return p, k
}

func apply(t *testing.T, p *Plane, entries ...plane.Entry) {
	t.Helper()
	if err := p.Apply(t.Context(), plane.Update{Entries: entries}); err != nil {
		t.Fatal(err)
	}
}

func prove(t *testing.T, p *Plane, times int) {
	t.Helper()
	for range times {
		if err := p.prove(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// goes is where the kernel sends a packet; "" if nowhere.
func goes(k *kernel, p plane.Packet) string {
	h, ok := k.tunnel(p)
	if !ok {
		return ""
	}
	return h.to.String()
}

func TestDeletedFlowsNoMore(t *testing.T) {
	p, k := scene(t, pin(site1, 0, 1, 2), pin(site2, 0, 1, 2))
	apply(t, p, cut(pin(site1, 0, 0, 0)))
	if got := goes(k, esp(site1)); got != "" {
		t.Errorf("at once: ESP of a deleted tunnel goes to %s", got)
	}
	k.pass(graveTime)
	if n := len(k.conns); n != 2 {
		t.Errorf("%d entries after %v, want the other tunnel's 2", n, graveTime)
	}
	if got := goes(k, esp(site2)); got != "10.9.0.1" {
		t.Errorf("the other tunnel goes to %q", got)
	}
}

// A packet that held the entry at the moment when it was replaced puts it back below the new one, where it appears again when the new
// one is gone (ip_vs_conn_put winds up the timer that ip_vs_conn_expire_now had run down).
func TestHiddenEntryIsFound(t *testing.T) {
	p, k := scene(t, pin(site1, 0, 1, 2), pin(site2, 0, 1, 2))
	k.hidden = true
	apply(t, p, cut(pin(site1, 0, 0, 0)))
	k.hidden = false
	k.pass(graveTime)
	if got := goes(k, esp(site1)); got == "" {
		t.Fatal("nothing hidden: the test shows nothing")
	}
	prove(t, p, 1)
	k.pass(surplusAge)
	prove(t, p, 1)
	if got := goes(k, esp(site1)); got != "" {
		t.Errorf("ESP of the deleted tunnel still goes to %s", got)
	}
	if got := goes(k, esp(site2)); got != "10.9.0.1" {
		t.Errorf("the other tunnel goes to %q", got)
	}
}

func TestProofMends(t *testing.T) {
	for _, test := range []struct {
		name string
		harm func(*kernel)
	}{
		{"entries lost", func(k *kernel) { k.conns = k.conns[:1] }},
		{"services flushed", func(k *kernel) {
			for key := range k.services {
				_ = k.Change(change{act: cutService, key: key})
			}
		}},
		{"a destination removed", func(k *kernel) {
			s := k.services[netip.AddrPortFrom(vip4, 500)]
			for a, d := range s.dests {
				d.available = false
				delete(s.dests, a)
			}
		}},
		{"an entry of somebody else's, to one of our destinations", func(k *kernel) {
			stranger, ike := netip.MustParseAddr("203.0.113.66"), netip.AddrPortFrom(vip4, 500)
			ours := k.find(netip.AddrPortFrom(site1, 0), ike)
			_ = k.Send(context.Background(), []inject.Conn{{Client: netip.AddrPortFrom(stranger, 0), VIP: ike, Dest: ours.Dest, Timeout: time.Hour}})
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, k := scene(t, pin(site1, 0, 1, 2), pin(site2, 0, 3, 2))
			test.harm(k)
			prove(t, p, 2)
			k.pass(surplusAge)
			prove(t, p, 1)
			got := []string{goes(k, esp(site1)), goes(k, natt(site1, 1024)), goes(k, esp(site2)), goes(k, natt(site2, 1024)), goes(k, esp(netip.MustParseAddr("203.0.113.66")))}
			if diff := cmp.Diff([]string{"10.9.0.1", "10.9.0.1", "10.9.0.3", "10.9.0.3", ""}, got); diff != "" {
				t.Error(diff)
			}
			if p.proof.repairs == 0 {
				t.Error("no repair was counted")
			}
		})
	}
}

// What lingers at the destination that it was sent from is no surplus: it is gone in a minute.
func TestProofWaitsForWhatLingers(t *testing.T) {
	p, k := scene(t, pin(site1, 0, 1, 2), pin(site2, 0, 3, 2))
	was := k.find(netip.AddrPortFrom(site1, 0), netip.AddrPortFrom(vip4, 500))
	apply(t, p, pin(site1, 0, 3, 2))
	apply(t, p, pin(site2, 0, 1, 2)) // so that the destination stays
	lingers := *was
	lingers.expires = k.now.Add(inject.LingerTime)
	k.conns = append(k.conns, &lingers)
	sent := k.sent
	for range 20 {
		prove(t, p, 1)
		k.pass(5 * time.Second)
	}
	if k.sent != sent || p.proof.repairs != 0 {
		t.Errorf("%d entries sent, %d repairs", k.sent-sent, p.proof.repairs)
	}
}

func TestProofLeavesWellAlone(t *testing.T) {
	p, k := scene(t, pin(site1, 0, 1, 2), pin(site2, 4000, 3, 2), pin(site2, 0, 1, 2))
	sent := k.sent
	prove(t, p, 3)
	if k.sent != sent || p.proof.repairs != 0 {
		t.Errorf("%d entries sent, %d repairs, though nothing was wrong", k.sent-sent, p.proof.repairs)
	}
}

// Under dr a death is written to nexthop objects alone.
func TestDeathSendsNoEntry(t *testing.T) {
	p, k := scene(t, pin(site1, 0, 1, 2), pin(site2, 0, 2, 3))
	sent := k.sent
	if err := p.SetAlive(1, false); err != nil {
		t.Fatal(err)
	}
	if k.sent != sent {
		t.Errorf("%d entries sent", k.sent-sent)
	}
	if got := goes(k, esp(site1)); got != "10.9.0.2" {
		t.Errorf("goes to %q, want the backup", got)
	}
}

// What the daemon did not get to delete before it died ends with the next start.
func TestStartEndsWhatIsStale(t *testing.T) {
	p, k := scene(t, pin(site1, 0, 1, 2), pin(site2, 0, 3, 2))
	next := open(k)
	if err := next.Replace(t.Context(), small(), slices.Values([]plane.Entry{pin(site2, 0, 3, 2)})); err != nil {
		t.Fatal(err)
	}
	_ = p
	if got := goes(k, esp(site1)); got != "" {
		t.Errorf("a tunnel that is not in the table goes to %s", got)
	}
	if got := goes(k, esp(site2)); got != "10.9.0.3" {
		t.Errorf("one that is goes to %q", got)
	}
}

func TestForeignServiceIsRefused(t *testing.T) {
	k := newKernel()
	k.services[netip.AddrPortFrom(vip4, 500)] = &kernelService{dests: map[netip.AddrPort]*kernelDest{}}
	err := open(k).Replace(t.Context(), small(), slices.Values([]plane.Entry{}))
	if err == nil || k.services[netip.AddrPortFrom(vip4, 500)].ours {
		t.Errorf("Replace: %v; the service is ours: %t", err, k.services[netip.AddrPortFrom(vip4, 500)].ours)
	}
}

// Whatever call of the kernel fails, Replace brings all in order afterwards.
func TestFailuresHeal(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 1))
	broken := errors.New("broken on purpose")
	for round := range 200 {
		p, k := scene(t, pin(site1, 0, 1, 2), pin(site2, 4000, 3, 2))
		left := rng.IntN(12)
		k.fail = func(string) error {
			if left--; left < 0 {
				return broken
			}
			return nil
		}
		_ = p.SetAlive(2, false)
		err := p.Apply(t.Context(), plane.Update{Entries: []plane.Entry{pin(site1, 0, 3, 1), cut(pin(site2, 4000, 0, 0)), pin(site2, 0, 1, 3)}})
		if err != nil && !errors.Is(err, broken) {
			t.Fatalf("seed %d round %d: %v", seed, round, err)
		}
		k.fail = nil
		want := []plane.Entry{pin(site1, 0, 3, 1), pin(site2, 0, 1, 3)}
		if err := p.Replace(t.Context(), small(), slices.Values(want)); err != nil {
			t.Fatalf("seed %d round %d: %v", seed, round, err)
		}
		k.pass(time.Second)
		got := []string{goes(k, esp(site1)), goes(k, natt(site2, 4000)), goes(k, esp(site2))}
		if diff := cmp.Diff([]string{"10.9.0.3", "10.9.0.1", "10.9.0.1"}, got); diff != "" {
			t.Fatalf("seed %d round %d: %s", seed, round, diff)
		}
		prove(t, p, 2)
		if p.proof.repairs != 0 {
			t.Fatalf("seed %d round %d: the proof had to repair", seed, round)
		}
	}
}

func TestAudit(t *testing.T) {
	p, k := scene(t, pin(site1, 0, 1, 2), pin(site2, 0, 3, 2))
	audit := func() (out []plane.Difference, sum plane.Audited) {
		sum, err := p.Audit(t.Context(), func(d plane.Difference) bool {
			out = append(out, d)
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
		return out, sum
	}
	if d, sum := audit(); len(d) != 0 || sum.Equal != 4 {
		t.Errorf("differences %v, sum %+v, want none and 4 equal", d, sum)
	}
	k.conns = slices.DeleteFunc(k.conns, func(c *kernelConn) bool { return c.Client.Addr() == site1 && c.VIP.Port() == 500 })
	d, sum := audit()
	want := []plane.Difference{{Key: "endpoint 203.0.113.1, any port, at UDP 192.0.2.10:500", Want: "rs1, backup rs2 (240.0.0.1)", Have: "nothing"}}
	if len(d) == 1 && d[0].Want == "rs1, backup rs2 (240.0.0.2)" {
		want[0].Want = d[0].Want // whichever pair came first
	}
	if diff := cmp.Diff(want, d); diff != "" || sum.Missing != 1 || sum.Equal != 3 {
		t.Errorf("sum %+v\n%s", sum, diff)
	}
}

// A refresh within the timeout keeps everything for ever.
func TestRefreshKeeps(t *testing.T) {
	p, k := scene(t, pin(site1, 0, 1, 2), pin(site2, 4000, 3, 2))
	before := len(k.conns)
	witness{p, k}.wait()
	witness{p, k}.wait()
	if len(k.conns) != before {
		t.Errorf("%d entries, want %d", len(k.conns), before)
	}
}
