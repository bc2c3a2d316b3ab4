package ipvs

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
)

// Sequences that a reviewer found.

// failing makes calls of one kind fail, so many times.
func (k *kernel) failTimes(what string, times int) {
	k.fail = func(w string) error {
		if w != what || times == 0 {
			return nil
		}
		times--
		return errors.New("broken on purpose")
	}
}

// flush is ipvsadm -C.
func (k *kernel) flush() {
	for key := range k.services {
		_ = k.Change(change{act: cutService, key: key})
	}
}

func TestRepairThatFailsIsTriedAgain(t *testing.T) {
	for _, what := range []string{"change", "send", "gate", "nexthops", "routes"} {
		p, k := scene(t, pin(site1, 0, 1, 2), pin(site2, 0, 1, 2))
		k.flush()
		k.failTimes(what, 1)
		_ = p.prove(t.Context())
		prove(t, p, 1)
		if err := p.heal(t.Context()); err != nil {
			t.Error(err)
		}
		if got := goes(k, esp(site1)); got != "10.9.0.1" {
			t.Errorf("%s failed once: ESP goes to %q", what, got)
		}
	}
}

func TestApplyAfterRepairThatFailed(t *testing.T) {
	p, k := scene(t, pin(site1, 0, 1, 2))
	k.flush()
	k.failTimes("change", 1)
	_ = p.prove(t.Context())
	apply(t, p, pin(site2, 0, 1, 2))
	if got := []string{goes(k, esp(site1)), goes(k, esp(site2))}; !slices.Equal(got, []string{"10.9.0.1", "10.9.0.1"}) {
		t.Errorf("go to %q", got)
	}
}

// ipvsadm -S, -C, -R: the services are there without our mark.
func TestServicesThatCameBackAsSomebodyElses(t *testing.T) {
	p, k := scene(t, pin(site1, 0, 1, 2))
	for _, s := range k.services {
		s.ours = false
	}
	if err := p.prove(t.Context()); err == nil {
		t.Error("the proof says nothing")
	}
	if err := p.Apply(t.Context(), plane.Update{Entries: []plane.Entry{pin(site2, 0, 1, 2)}}); err == nil {
		t.Error("Apply says nothing")
	}
	p.Detail()
}

func TestApplyTakesNoServiceOver(t *testing.T) {
	p, k := scene(t, pin(site1, 0, 1, 2))
	key := netip.AddrPortFrom(vip4, 4501)
	k.services[key] = &kernelService{dests: map[netip.AddrPort]*kernelDest{}}
	c := small()
	c.Services[0].Match = append(c.Services[0].Match, affinity.Match{Proto: protoUDP, Lo: 4501, Hi: 4501})
	if err := p.Apply(t.Context(), plane.Update{Config: &c}); err == nil || len(k.services[key].dests) > 0 || k.services[key].ours {
		t.Errorf("Apply: %v; the service has %d destinations, ours %t", err, len(k.services[key].dests), k.services[key].ours)
	}
}

// A start that fails over a VIP that the configuration has no more leaves a service that nothing is known of.
func TestStartThatFailedOverOldVIP(t *testing.T) {
	_, k := scene(t, pin(site1, 0, 1, 2))
	next := open(k)
	c := small()
	c.Services[0].VIPs = []netip.Addr{netip.MustParseAddr("192.0.2.11")}
	k.failTimes("send", 100)
	e := pin(site1, 0, 1, 2)
	e.Endpoint.VIP = c.Services[0].VIPs[0]
	if err := next.Replace(t.Context(), c, slices.Values([]plane.Entry{e})); err == nil {
		t.Fatal("nothing failed: the test shows nothing")
	}
	next.Detail()
	k.fail = nil
	prove(t, next, 1)
}

// After an uninstallation nothing of ours is left to start the labels from; old entries wait for destinations with theirs.
func TestReinstallationRevivesNothing(t *testing.T) {
	for range 20 {
		_, k := scene(t, pin(site1, 0, 1, 2), pin(site2, 0, 1, 2))
		k.flush()
		k.routes, k.rules = nil, nil
		clear(k.nexthops)
		next := open(k)
		if err := next.Replace(t.Context(), small(), slices.Values([]plane.Entry{pin(site2, 0, 3, 2)})); err != nil {
			t.Fatal(err)
		}
		if got := goes(k, esp(site1)); got != "" {
			t.Fatalf("a tunnel that is in no table goes to %s", got)
		}
	}
}

// A death under tunnel whose entries could not be sent is not proved right by what was sent before.
func TestDeathThatCouldNotBeSent(t *testing.T) {
	k := newKernel()
	p := open(k)
	c := smallBy(affinity.IPIP)
	if err := p.Replace(t.Context(), c, slices.Values([]plane.Entry{pin(site1, 0, 1, 2)})); err != nil {
		t.Fatal(err)
	}
	k.failTimes("send", 1)
	if err := p.SetAlive(1, false); err == nil {
		t.Fatal("nothing failed: the test shows nothing")
	}
	prove(t, p, 1)
	if got := goes(k, esp(site1)); got != "10.9.0.2" {
		t.Errorf("goes to %q", got)
	}
}

// A network manager that thinks all routes and rules are its own takes ours away.
func TestFlushedRoutesComeBack(t *testing.T) {
	subnet := plane.Entry{Subnet: plane.SubnetKey{Prefix: netip.MustParsePrefix("10.50.0.0/16")}, Target: plane.Target{Primary: 1, Backup: 2}}
	p, k := scene(t, pin(site1, 0, 1, 2), subnet)
	look := func() []string {
		h, ok := k.lookup("sub0", netip.MustParseAddr("10.50.0.1"))
		if !ok {
			return []string{goes(k, esp(site1)), ""}
		}
		return []string{goes(k, esp(site1)), h.to.String()}
	}
	for _, harm := range []func(){func() { k.rules = nil }, func() { k.routes = nil }} {
		harm()
		if slices.Contains(look(), "10.9.0.1") && look()[1] != "" {
			t.Fatal("no harm done: the test shows nothing")
		}
		for range subnetLooks {
			if err := p.heal(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff([]string{"10.9.0.1", "10.9.0.1"}, look()); diff != "" {
			t.Error(diff)
		}
	}
}

// With the pairs' addresses used up the pairs that have none are dropped, and no other waits for them.
func TestPairsUsedUp(t *testing.T) {
	k := newKernel()
	o, err := Options{Interfaces: testInterfaces(), Pairs4: netip.MustParsePrefix("240.0.0.0/28")}.complete()
	if err != nil {
		t.Fatal(err)
	}
	p := newPlane(o, parts{inject: k, lvs: k, routes: k, gate: filter{k}, log: lens{k}, survey: k, conns: k.table}, func() time.Time { return k.now })
	if err := p.Replace(t.Context(), small(), slices.Values([]plane.Entry{pin(site1, 0, 1, 2)})); err != nil {
		t.Fatal(err)
	}
	c := small()
	var more []plane.Entry
	for i := byte(4); i < 40; i++ {
		c.RealServers = append(c.RealServers, plane.RealServer{Index: affinity.Index(i), Name: fmt.Sprint(i), Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 9, 0, i})}, Alive: true})
		more = append(more, pin(netip.AddrFrom4([4]byte{198, 51, 100, i}), 0, affinity.Index(i), 1))
	}
	if err := p.Apply(t.Context(), plane.Update{Config: &c, Entries: more}); err != nil {
		t.Fatal(err)
	}
	if len(p.Warnings()) == 0 {
		t.Error("nobody is told")
	}
	if err := p.SetAlive(1, false); err != nil {
		t.Fatal(err)
	}
	if got := goes(k, esp(site1)); got != "10.9.0.2" {
		t.Errorf("after the death of 1 its tunnel goes to %q", got)
	}
}

// What a running gate lets through stays so until the first Replace says otherwise.
func TestGateStaysUntilTold(t *testing.T) {
	_, k := scene(t, pin(site1, 0, 1, 2))
	if err := open(k).keepGate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(k.gate.VIPs) == 0 {
		t.Error("the gate was emptied")
	}
}

// A pin for any port under masq has no entry: the first packet would make it one for a port that nobody knows.
func TestMasqNeedsPorts(t *testing.T) {
	k := newKernel()
	p := open(k)
	c := small()
	c.Services[0].Match, c.Services[0].Method = []affinity.Match{{Proto: protoUDP, Lo: 4500, Hi: 4500}}, affinity.Masq
	for i := range c.RealServers {
		c.RealServers[i].Method = affinity.Masq
	}
	if err := p.Replace(t.Context(), c, slices.Values([]plane.Entry{pin(site1, 0, 1, 2), pin(site2, 4000, 1, 2)})); err != nil {
		t.Fatal(err)
	}
	if got := []string{goes(k, natt(site1, 4500)), goes(k, natt(site2, 4000))}; !slices.Equal(got, []string{"", "10.9.0.1"}) {
		t.Errorf("go to %q", got)
	}
	if d, err := p.Lookup(natt(site1, 4500)); err != nil || d.Reason != plane.DropNoPort {
		t.Errorf("Lookup: %v %v", d, err)
	}
}

// ipvsadm --stop-daemon backup: the link is opened again, and all is sent.
func TestLostLinkIsOpenedAgain(t *testing.T) {
	k := newKernel()
	p := open(k)
	opened := 0
	p.reopen = func() (injector, error) {
		if opened++; opened == 1 {
			return nil, errors.New("not yet")
		}
		return k, nil
	}
	if err := p.Replace(t.Context(), small(), slices.Values([]plane.Entry{pin(site1, 0, 1, 2)})); err != nil {
		t.Fatal(err)
	}
	p.inject = unlinked{errors.New("stopped")}
	k.conns = nil
	if err := p.relink(); err == nil {
		t.Error("a link that cannot be opened is no error")
	}
	if err := p.relink(); err != nil {
		t.Error(err)
	}
	prove(t, p, 1)
	if got := goes(k, esp(site1)); got != "10.9.0.1" {
		t.Errorf("goes to %q", got)
	}
}

// Under tunnel a packet to a real server whose link is down would follow the default route, and a customer's plaintext with it.
func TestPlaintextDoesNotGoAstray(t *testing.T) {
	k := newKernel()
	p := open(k)
	c := smallBy(affinity.IPIP)
	subnet := plane.Entry{Subnet: plane.SubnetKey{Prefix: netip.MustParsePrefix("10.50.0.0/16")}, Target: plane.Target{Primary: 1, Backup: 2}}
	if err := p.Replace(t.Context(), c, slices.Values([]plane.Entry{subnet})); err != nil {
		t.Fatal(err)
	}
	for _, astray := range []bool{true, false} {
		k.astray = astray
		if err := p.heal(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, ok := k.lookup("sub0", netip.MustParseAddr("10.50.0.1")); ok == astray {
			t.Errorf("the way leads astray: %t; the packet leaves: %t", astray, ok)
		}
	}
}

// Unknown endpoints are spread by the destinations' addresses and labels: a start leaves those alone.
func TestStartDoesNotSpreadAnew(t *testing.T) {
	k := newKernel()
	c := small()
	c.Services[0].Ring = plane.NewRing([]affinity.Index{1, 2, 3})
	spread := func() map[netip.AddrPort]int {
		out := map[netip.AddrPort]int{}
		for a, d := range k.services[netip.AddrPortFrom(vip4, 4500)].dests {
			if d.weight > 0 {
				out[a] = d.weight
			}
		}
		return out
	}
	if err := open(k).Replace(t.Context(), c, slices.Values([]plane.Entry{pin(site1, 0, 1, 2)})); err != nil {
		t.Fatal(err)
	}
	before := spread()
	if len(before) < 3 {
		t.Fatalf("spread over %v: the test shows nothing", before)
	}
	if err := open(k).Replace(t.Context(), c, slices.Values([]plane.Entry{pin(site1, 0, 1, 2)})); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, spread(), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
}

// The tunnel device in use is looked after: its guard may be taken out, and the MTU of the way may change. What goes wrong is told.
func TestTunnelDeviceIsLookedAfter(t *testing.T) {
	k := newKernel()
	p := open(k)
	c := smallBy(affinity.IPIP)
	subnet := plane.Entry{Subnet: plane.SubnetKey{Prefix: netip.MustParsePrefix("10.50.0.0/16")}, Target: plane.Target{Primary: 1, Backup: 2}}
	if err := p.Replace(t.Context(), c, slices.Values([]plane.Entry{subnet})); err != nil {
		t.Fatal(err)
	}
	for _, broken := range []int{1, 0} {
		k.ensured = nil
		k.failTimes("tunnel", broken)
		for range subnetLooks {
			if err := p.heal(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if !slices.Equal(k.ensured, []bool{false}) {
			t.Errorf("looked after the devices (IPv6's or not) %v, want IPv4's once", k.ensured)
		}
		if told := p.Warnings(); (broken > 0) != (len(told) > 0) {
			t.Errorf("failed %d times, and that is told: %q", broken, told)
		}
	}
}
