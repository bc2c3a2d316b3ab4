package guest

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tunneldirector/integration/lab"
)

// TestStaticTunnelsSurviveDeath: when a real server dies, its tunnels go on at their backups by what the director does alone,
// since every real server holds their keys; the others lose nothing.
func TestStaticTunnelsSurviveDeath(t *testing.T) {
	onPlanes(t, func(t *testing.T, plane string) {
		r := newRig(t, setup{plane: plane, lab: lab.Options{Sites: 6, RealServers: 3, IPv6: true}, service: serviceFor("dr", esp, datagrams)})
		r.serve()
		sites := oneSubnet(esp, r.Sites...)
		r.bring(esp, sites...)
		dying := r.placed(sites[0])
		before := r.placements(sites...)
		var hit, others []*flow
		for _, f := range r.flows(sites...) {
			if before[f.site.Name] == dying.Name {
				hit = append(hit, f)
			} else {
				others = append(others, f)
			}
		}
		r.rest(300 * time.Millisecond)
		event := time.Now()
		r.must("kill", r.KillRealServer(dying.Index))
		for _, f := range hit {
			r.flowing(f, 30*time.Second)
		}
		since := r.w.mark() // until the verdict the switch floods what is for the dead one
		r.rest(300 * time.Millisecond)
		r.lossless(others, "while another real server died")
		settings := fmt.Sprintf("plane=%s %s dpd=none ping=%s tunnels=%d", plane, probes, interval, len(hit))
		r.cost("death_restored", settings, event, hit...)
		for _, s := range sites {
			at := r.placed(s)
			if was := before[s.Name]; was != dying.Name && at.Name != was || at.Name == dying.Name {
				r.Errorf("%s was at %s and is at %s after the death of %s", s.Name, was, at.Name, dying.Name)
			}
			r.together(s, at, since, "esp")
		}
	})
}

// TestCablePull: when the director's own cable to the real servers is pulled and put back, nobody is declared dead, nothing
// moves, and all flows again by itself.
func TestCablePull(t *testing.T) {
	onPlanes(t, func(t *testing.T, plane string) {
		r := newRig(t, setup{plane: plane, lab: lab.Options{Sites: 4, RealServers: 2, IPv6: true}, service: serviceFor("dr", esp, datagrams)})
		r.serve()
		sites := oneSubnet(esp, r.Sites...)
		r.bring(esp, sites...)
		before := r.placements(sites...)
		flows := r.flows(sites...)
		r.rest(300 * time.Millisecond)
		r.must("pull", r.SetCable(r.Director.RS, false))
		r.rest(2 * time.Second) // longer than a verdict takes
		event := time.Now()
		r.must("put back", r.SetCable(r.Director.RS, true))
		for _, f := range flows {
			r.flowing(f, 30*time.Second)
		}
		r.cost("cable_restored", fmt.Sprintf("plane=%s pulled=2s ping=%s tunnels=%d", plane, interval, len(flows)), event, flows...)
		if diff := cmp.Diff(before, r.placements(sites...)); diff != "" {
			r.Errorf("placements (-before +after):\n%s", diff)
		}
	})
}

// cost ends flows that were hit, and logs the longest time until one flowed again both ways after an event, and the most
// pings that one lost.
func (r *rig) cost(what, settings string, event time.Time, flows ...*flow) {
	r.Helper()
	var longest time.Duration
	lost := 0
	out, in := r.stopAll(flows...)
	for k, f := range flows {
		lost = max(lost, lab.CountLost(out[k]), lab.CountLost(in[k]))
		there, ok := lab.Restored(out[k], event)
		back, too := lab.Restored(in[k], event)
		if !ok || !too {
			r.Errorf("%s: answered again: from the site %t, to the site %t", f.site.Name, ok, too)
		}
		longest = max(longest, there, back)
	}
	measured(r.T, what, seconds(longest), "s", settings)
	measured(r.T, what+"_lost", lost, "pings", settings)
}
