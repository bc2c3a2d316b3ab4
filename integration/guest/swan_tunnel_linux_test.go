package guest

import (
	"slices"
	"testing"
	"time"

	"tunneldirector/integration/lab"
)

// TestStrongSwanByTunnel: IPsec in IPIP to the real servers, which take it out: native ESP with IPv4 and IPv6 outside, and
// ESP in UDP.
func TestStrongSwanByTunnel(t *testing.T) {
	onPlanes(t, func(t *testing.T, plane string) {
		r := newRig(t, setup{
			plane: plane, service: ipsec("tunnel"),
			lab: lab.Options{Sites: 4, RealServers: 2, IPv6: true, BehindNAT: 2, Decapsulate: true},
		})
		w := r.startSwan()
		r.serve(r.Sites...)
		since := r.w.mark()
		for _, s := range r.Sites {
			w.call(s, kindOfSite{})
		}
		for _, s := range r.Sites {
			w.arrive(s, 30*time.Second)
		}
		for _, s := range r.Sites {
			w.ping(s, 3)
			kinds := []string{"ike-in-ipip", "esp-in-ipip"}
			if s.Local != s.Endpoint {
				kinds[1] = "esp-in-udp-in-ipip"
			}
			w.together(s, w.placed(s), since, kinds...)
			w.wrapped(s, since)
			w.stream(s, 100_000)
		}
		w.run("death", (*swan).testTunnelDeath)
	})
}

// testTunnelDeath: a dead real server's tunnels go to the other one, also where their pins have to be written anew for it.
func (w *swan) testTunnelDeath() {
	dead := w.placed(w.Sites[0])
	victims := slices.DeleteFunc(slices.Clone(w.Sites), func(s *lab.Site) bool { return w.placed(s) != dead })
	flows, calm := w.flows(victims...), w.flows(w.others(victims...)...)
	w.allFlow(flows...)
	w.must("kill "+dead.Name, w.KillRealServer(dead.Index))
	delete(w.servers, dead)
	w.awaitDeath(dead)
	for i, s := range victims {
		w.arrive(s, 60*time.Second)
		w.flowing(flows[i], 20*time.Second)
	}
	for i, gap := range w.gaps(flows...) {
		measured(w, "death-by-tunnel-gap", seconds(gap), "s", victims[i].Name+" "+settings)
	}
	w.lossless(calm, "while another real server died")
}
