package guest

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tunneldirector/integration/lab"
)

// TestRestartLosesNothing: the director stops, starts, is killed and starts again under traffic in tunnels of IPsec and of
// WireGuard; no packet is lost and nothing moves.
func TestRestartLosesNothing(t *testing.T) {
	onPlanes(t, func(t *testing.T, plane string) {
		r := newRig(t, setup{plane: plane, lab: lab.Options{Sites: 4, RealServers: 2, IPv6: true}, service: serviceFor("dr", esp, wireguard)})
		r.serve()
		sites := append(oneSubnet(esp, r.Sites[:2]...), oneSubnet(wireguard, r.Sites[2:]...)...)
		r.bring(esp, sites[:2]...)
		r.bring(wireguard, sites[2:]...)
		before := r.placements(sites...)
		for _, end := range []struct {
			name string
			do   func() error
		}{{"stopped", r.d.Stop}, {"killed", r.d.Kill}} {
			flows := r.flows(sites...)
			r.rest(200 * time.Millisecond)
			r.must("end the director", end.do())
			r.rest(500 * time.Millisecond)
			begin := time.Now()
			r.must("start the director", r.d.Start(r.ctx))
			measured(r.T, "restart_ready", seconds(time.Since(begin)), "s", "plane="+plane+" "+end.name+" tunnels=4")
			r.rest(time.Second) // what a start does in the end: what is left over goes
			r.lossless(flows, "while the director was "+end.name+" and started")
			if diff := cmp.Diff(before, r.placements(sites...)); diff != "" {
				r.Errorf("%s: placements (-before +after):\n%s", end.name, diff)
			}
		}
	})
}
