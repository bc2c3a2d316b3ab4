package integration

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tunneldirector/director/api"
	"tunneldirector/integration/daemon"
	"tunneldirector/integration/lab"
)

// soon ends after a second.
func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	t.Cleanup(cancel)
	return ctx
}

// TestReturnMovesNothing: a real server that comes back is a new incarnation, and only new tunnels go there.
func TestReturnMovesNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, lab.Options{Sites: 6}, "")
	died := r.placed(r.Sites[0])
	before := r.placements()
	var others []*lab.Site
	for _, s := range r.Sites {
		if before[s.Name] != died.Name {
			others = append(others, s)
		}
	}
	end := r.send(others...)
	r.must("kill", r.KillRealServer(died.Index))
	r.life(died.Name, "dead #1")
	r.until(20*time.Second, "wait until placements are mended", func() error {
		page, err := r.d.Client.TunnelPage(r.ctx, api.TunnelFilter{RealServer: died.Name}, "")
		if err == nil && len(page.Tunnels) > 0 {
			err = fmt.Errorf("%d tunnels are on %s", len(page.Tunnels), died.Name)
		}
		return err
	})
	dead := r.placements()
	for _, s := range r.Sites {
		if dead[s.Name] == died.Name || before[s.Name] != died.Name && dead[s.Name] != before[s.Name] {
			t.Errorf("%s was on %s, and is on %s after the death of %s", s.Name, before[s.Name], dead[s.Name], died.Name)
		}
	}
	r.rest(500 * time.Millisecond) // what mends the placements is through
	since := r.revision()
	r.must("restore", r.Restore(died.Index))
	r.life(died.Name, "alive #2")
	counted := map[*lab.Site]lab.Counts{}
	for _, s := range r.Sites {
		counted[s] = died.Counts(s)
	}
	r.rest(time.Second)
	if diff := cmp.Diff(dead, r.placements()); diff != "" {
		t.Errorf("placements (-before the return +after):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{}, r.moves(since)); diff != "" {
		t.Errorf("moves since the return (-want +got):\n%s", diff)
	}
	for _, s := range others {
		if got := died.Counts(s).Sub(counted[s]); got != (lab.Counts{}) {
			t.Errorf("%s counted %+v of %s, which is at %s", died.Name, got, s.Name, dead[s.Name])
		}
	}
	r.lossless(end, "while another real server died and came back")
	at, i := map[string]int{}, 0
	r.until(10*time.Second, "push until a new tunnel is at "+died.Name, func() error {
		a, err := r.d.Client.PutTunnel(r.ctx, daemon.Filler(i))
		r.must("push", err)
		i++
		if at[a.Placement.RealServer]++; at[died.Name] == 0 {
			return fmt.Errorf("new tunnels are at %v", at)
		}
		return nil
	})
}

// TestNoPanic: if the director itself is cut off, or all real servers at once, it kills none and moves nothing, and all
// works on when the cable is back.
func TestNoPanic(t *testing.T) {
	t.Parallel()
	r := newRig(t, lab.Options{Sites: 4}, "")
	placements, lives := r.placements(), r.lives()
	all := func() (ports []lab.Port) {
		for _, rs := range r.RealServers {
			ports = append(ports, rs.DR)
		}
		return ports
	}
	for _, tt := range []struct {
		name   string
		cables []lab.Port
	}{
		{"the director's own cable", []lab.Port{r.Director.RS}},
		{"the cables of all real servers", all()},
	} {
		r.cables(tt.cables, false)
		r.until(20*time.Second, tt.name+": wait for the alarm", func() error {
			if st := r.status(); len(st.Alarms) == 0 {
				return fmt.Errorf("no alarm: %+v", st.RealServers)
			}
			return nil
		})
		r.rest(1500 * time.Millisecond) // longer than a verdict takes
		if lost := r.ping(r.Sites[0], 3); lost != 6 {
			t.Errorf("%s pulled: %d of 6 packets lost, want all", tt.name, lost)
		}
		if diff := cmp.Diff(lives, r.lives()); diff != "" {
			t.Errorf("%s pulled: real servers (-before +now):\n%s", tt.name, diff)
		}
		r.cables(tt.cables, true)
		r.until(20*time.Second, tt.name+" put back: wait for tunnels", func() error {
			for _, s := range r.Sites {
				if lost := r.ping(s, 1); lost > 0 {
					return fmt.Errorf("%s lost %d of 2 packets", s.Name, lost)
				}
			}
			return nil
		})
		r.rest(time.Second)
		if diff := cmp.Diff(placements, r.placements()); diff != "" {
			t.Errorf("%s put back: placements (-before +now):\n%s", tt.name, diff)
		}
		if diff := cmp.Diff(lives, r.lives()); diff != "" {
			t.Errorf("%s put back: real servers (-before +now):\n%s", tt.name, diff)
		}
		r.until(20*time.Second, tt.name+": wait for the alarm's end", func() error {
			if a := r.status().Alarms; len(a) > 0 {
				return fmt.Errorf("alarms: %q", a)
			}
			return nil
		})
	}
}

func (r *rig) cables(ports []lab.Port, up bool) {
	r.Helper()
	for _, p := range ports {
		r.must("set a cable", r.SetCable(p, up))
	}
}
