package guest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"tunneldirector/integration/lab"
)

// TestStrongSwan: sites with IPv4 and IPv6 outside, and behind NAT; certificates that fit no packet, cut by IP and by IKE.
func TestStrongSwan(t *testing.T) {
	onPlanes(t, func(t *testing.T, plane string) {
		r := newRig(t, setup{plane: plane, lab: lab.Options{Sites: 6, RealServers: 3, IPv6: true, BehindNAT: 2}, service: ipsec("dr")})
		w := r.startSwan()
		r.serve(r.Sites...)
		w.run("establish", (*swan).testEstablish)
		w.run("rekey", (*swan).testRekey)
		w.run("repin, old real server says goodbye", (*swan).testRepinTold)
		if plane == "ipvs" || soak() { // on one plane, for the time they take
			w.run("NAT forgets", (*swan).testNATForgets)
			w.run("repin, nobody is told", (*swan).testRepinUntold)
		}
		w.run("director replaced", (*swan).testESPFirst)
		w.run("removed", (*swan).testRemoved)
		w.run("death", (*swan).testDeath)
	})
}

// The sites of TestStrongSwan. Odd ones have IPv4 outside, even ones IPv6, hidden ones are behind one IPv4 address.
const (
	plain4  = iota // large certificate in IP fragments
	plain6         // the same
	mute4          // no liveness checks
	mute6          // the same; large certificate in IKE fragments
	hidden5        // large certificate in IP fragments
	hidden6        // no liveness checks
)

var kindsOfSites = []kindOfSite{
	plain4: {large: true}, plain6: {large: true}, mute4: {mute: true}, mute6: {mute: true, large: true, fragments: true},
	hidden5: {large: true}, hidden6: {mute: true},
}

// testEstablish: tunnels come up where the director says, and all of a tunnel, both ways, comes to that real server alone.
func (w *swan) testEstablish() {
	since := w.w.mark()
	begin := time.Now()
	for i, s := range w.Sites {
		w.call(s, kindsOfSites[i])
	}
	used := map[string]bool{}
	for _, s := range w.Sites {
		used[w.arrive(s, 30*time.Second).Name] = true
	}
	measured(w, "establish-6-tunnels", seconds(time.Since(begin)), "s", "(strongSwan; certificates, ECDSA P-256)")
	for i, s := range w.Sites {
		w.ping(s, 3)
		native, inUDP := []string{"ike", "esp"}, []string{"ike", "esp-in-udp"}
		kinds := native
		if s.Local != s.Endpoint {
			kinds = inUDP
		}
		if k := kindsOfSites[i]; k.large && !k.fragments {
			kinds = append(slices.Clone(kinds), "part")
		}
		rs := w.placed(s)
		w.together(s, rs, since, kinds...)
		m := w.w.met(s, since)[rs.Name]
		if k := kindsOfSites[i]; k.fragments && (m.Kinds["part"] > 0 || m.Kinds["ike"] < 5) {
			w.Errorf("%s cuts IKE messages itself; %s was given %v", s.Name, rs.Name, m.Kinds)
		}
		if all, err := w.at(s); err != nil || len(all) != 1 {
			w.Errorf("%s has tunnels at %v (%v), want one", s.Name, all, err)
		}
	}
	if a, b := w.placed(w.Sites[hidden5]), w.placed(w.Sites[hidden6]); a != b {
		w.Errorf("sites behind one address are at %s and %s", a.Name, b.Name)
	}
	if len(used) < 2 {
		w.Errorf("all sites are at %v, want them spread", used)
	}
	for _, s := range []*lab.Site{w.Sites[plain4], w.Sites[hidden5]} {
		w.stream(s, 100_000)
	}
}

// testRekey: while new keys are made, of packets and of the control channel, asked for by site and by real server, the
// director loses nothing and nothing moves.
func (w *swan) testRekey() {
	before := w.placements(w.Sites...)
	book := w.open(w.Sites...)
	flows := w.flows(w.Sites...)
	begin := time.Now()
	for i, s := range w.Sites {
		old := w.own(s)
		if i%2 == 0 { // the site asks
			w.must("rekey", w.sites[s].RekeyChild(old))
			w.changed(s, func() bool { return w.own(s).SPI != old.SPI })
			w.must("rekey", w.sites[s].RekeyIKE(w.own(s)))
		} else {
			d := w.servers[w.placed(s)]
			all, err := w.at(s)
			w.must("ask", err)
			w.must("rekey", d.RekeyChild(all[w.placed(s).Name]))
			w.changed(s, func() bool { return w.own(s).SPI != old.SPI })
			all, err = w.at(s)
			w.must("ask", err)
			w.must("rekey", d.RekeyIKE(all[w.placed(s).Name]))
		}
		w.changed(s, func() bool { return w.own(s).Number != old.Number })
	}
	w.rest(500 * time.Millisecond)
	took := time.Since(begin)
	sent, lost := w.forgiving(flows)
	book.close()
	measured(w, "rekey-lost", lost, "packets", fmt.Sprintf("(strongSwan itself: %d sent, 12 rekeys in %s s; the director lost none)", sent, seconds(took)))
	for _, s := range w.Sites {
		w.together(s, w.placed(s), book.since)
		if got := w.placed(s).Name; got != before[s.Name] {
			w.Errorf("%s moved from %s to %s", s.Name, before[s.Name], got)
		}
	}
}

// changed waits for something about a site's tunnel, which is between two SAs meanwhile.
func (w *swan) changed(s *lab.Site, done func() bool) {
	w.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !done() {
		if time.Now().After(deadline) {
			w.Fatalf("%s: no new SA", s.Name)
		}
		w.rest(20 * time.Millisecond)
	}
}

// testNATForgets: the NAT box gives the sites behind it other ports. They stay where they are.
func (w *swan) testNATForgets() {
	sites := w.Sites[hidden5:]
	before := w.placements(sites...)
	ports := func() map[string]uint16 {
		all := map[string]uint16{}
		for _, s := range sites {
			at, err := w.at(s)
			w.must("ask", err)
			all[s.Name] = at[before[s.Name]].Remote.Port()
		}
		return all
	}
	old := ports()
	since := w.w.mark()
	flows := w.flows(sites...)
	w.allFlow(flows...)
	w.must("forget", w.NAT.Forget())
	for _, f := range flows {
		w.flowing(f, 30*time.Second)
	}
	for _, gap := range w.gaps(flows...) {
		measured(w, "NAT-ports-changed-gap", seconds(gap), "s", settings)
	}
	for name, port := range ports() {
		if port == old[name] {
			w.Errorf("%s still has port %d", name, port)
		}
	}
	for _, s := range sites {
		w.together(s, w.placed(s), since)
		if got := w.placed(s).Name; got != before[s.Name] {
			w.Errorf("%s moved from %s to %s", s.Name, before[s.Name], got)
		}
	}
}
