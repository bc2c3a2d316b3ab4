package guest

import (
	"errors"
	"slices"
	"time"

	"tunneldirector/integration/lab"
)

// another is a real server that a site is not at.
func (r *rig) another(s *lab.Site) *lab.RealServer {
	r.Helper()
	return r.RealServers[r.placed(s).Index%len(r.RealServers)]
}

// repin moves a site's group, as an operator does.
func (r *rig) repin(group string, to *lab.RealServer) {
	r.Helper()
	r.must("move", r.d.Repin(r.ctx, group, to))
}

// others are all sites but these.
func (r *rig) others(these ...*lab.Site) []*lab.Site {
	var out []*lab.Site
	for _, s := range r.Sites {
		if !slices.Contains(these, s) {
			out = append(out, s)
		}
	}
	return out
}

// testRepinTold: the pin moves first, then the old real server ends the tunnel, and the site calls again.
func (w *swan) testRepinTold() {
	s := w.Sites[plain4]
	from, to := w.placed(s), w.another(s)
	flow, rest := w.flow(s), w.flows(w.others(s)...)
	w.allFlow(flow)
	all, err := w.at(s)
	w.must("ask", err)
	w.repin(s.Name, to)
	w.must("say goodbye", w.servers[from].Terminate(all[from.Name]))
	w.arrive(s, 30*time.Second)
	w.flowing(flow, 20*time.Second)
	measured(w, "repin-told-gap", seconds(w.gaps(flow)[0]), "s", settings)
	w.lossless(rest, "while another tunnel was moved")
	since := w.w.mark()
	w.ping(s, 3)
	w.together(s, to, since, "esp")
}

// testRepinUntold: the site finds out by its own liveness checks.
func (w *swan) testRepinUntold() {
	s := w.Sites[plain6]
	from, to := w.placed(s), w.another(s)
	flow, rest := w.flow(s), w.flows(w.others(s)...)
	w.allFlow(flow)
	w.repin(s.Name, to)
	w.arrive(s, 60*time.Second)
	w.flowing(flow, 20*time.Second)
	measured(w, "repin-untold-gap", seconds(w.gaps(flow)[0]), "s", settings)
	w.lossless(rest, "while another tunnel was moved")
	since := w.w.mark()
	w.ping(s, 3)
	w.together(s, to, since, "esp")
	// The old real server would ask its lost tunnel for signs of life in half a minute, and disturb what follows.
	all, err := w.at(s)
	w.must("ask", err)
	if old, ok := all[from.Name]; ok {
		w.must("clear", w.servers[from].Terminate(old))
	}
}

// testESPFirst: a director that was replaced, with nothing of the old one in the kernel, forwards what comes first, which
// is ESP: sites that ask nobody for signs of life send no IKE.
func (w *swan) testESPFirst() {
	sites := []*lab.Site{w.Sites[mute4], w.Sites[mute6], w.Sites[hidden6]}
	before := w.placements(w.Sites...)
	flows := w.flows(sites...)
	w.allFlow(flows...)
	w.must("stop the director", w.d.Stop())
	w.must("uninstall", w.d.Uninstall())
	w.rest(100 * time.Millisecond) // a capture may be behind
	wiped := w.w.mark()
	w.rest(200 * time.Millisecond)
	for _, s := range sites {
		if met := w.w.met(s, wiped); len(met) > 0 {
			w.Errorf("%s, without a director: real servers were given %+v", s.Name, met)
		}
	}
	started := time.Now()
	w.must("start the director", w.d.Start(w.ctx))
	for _, f := range flows {
		w.flowing(f, 20*time.Second)
	}
	flowing := time.Since(started)
	for _, gap := range w.gaps(flows...) {
		measured(w, "director-replaced-gap", seconds(gap), "s", "(stop, uninstall, start; "+seconds(flowing)+" s of it since start)")
	}
	for _, s := range sites {
		kind := "esp"
		if s.Local != s.Endpoint {
			kind = "esp-in-udp"
		}
		w.together(s, w.placed(s), wiped, kind)
		if m := w.w.met(s, wiped)[w.placed(s).Name]; s.Local == s.Endpoint && m.Kinds["ike"] > 0 {
			w.Errorf("%s sent IKE: %v; this test is about its silence", s.Name, m.Kinds)
		}
	}
	// Liveness checks that began in the gap may end tunnels yet: who has sent its last question waits for the answer.
	w.rest(2500 * time.Millisecond) // the last interval of retransmits, and some
	for _, s := range w.others(sites...) {
		w.arrive(s, 30*time.Second)
		w.establish(s, 20*time.Second)
	}
	for name, rs := range w.placements(w.Sites...) {
		if rs != before[name] {
			w.Errorf("%s moved from %s to %s", name, before[name], rs)
		}
	}
}

// testRemoved: what the director was told to forget stops at once, and stays stopped though the site goes on sending.
func (w *swan) testRemoved() {
	s := w.Sites[mute4]
	flow, rest := w.flow(s), w.flows(w.others(s)...)
	w.flowing(flow, 30*time.Second)
	_, err := w.d.Client.DeleteTunnel(w.ctx, s.Name, 0)
	w.must("delete", err)
	w.rest(500 * time.Millisecond) // what was on the wires, and is not captured yet
	since, sent := w.w.mark(), flow.out.Sent()
	w.rest(2 * time.Second)
	if met := w.w.met(s, since); len(met) > 0 {
		w.Errorf("after the tunnel was deleted real servers were given %+v", met)
	}
	if n := flow.out.Sent() - sent; n < 5 {
		w.Errorf("the site sent %d packets meanwhile: the test says nothing", n)
	}
	w.stop(flow)
	w.lossless(rest, "while another tunnel was removed")
}

// testDeath: a real server's cables are cut and its processes killed. Its tunnels go to their backups; the others do not
// notice.
func (w *swan) testDeath() {
	dead := w.placed(w.Sites[plain4])
	var victims, rest []*lab.Site
	for i, s := range w.Sites {
		switch {
		case i == mute4: // it is no more
		case w.placed(s) != dead:
			rest = append(rest, s)
		case !kindsOfSites[i].mute: // who never asks whether its peer lives never finds out, wherever the director sends it
			victims = append(victims, s)
		}
	}
	flows, calm := w.flows(victims...), w.flows(rest...)
	w.allFlow(flows...)
	event := time.Now()
	w.must("kill "+dead.Name, w.KillRealServer(dead.Index))
	delete(w.servers, dead)
	w.awaitDeath(dead)
	measured(w, "death-noticed", seconds(time.Since(event)), "s", "("+probes+")")
	for i, s := range victims {
		w.arrive(s, 60*time.Second)
		w.flowing(flows[i], 20*time.Second)
	}
	for i, gap := range w.gaps(flows...) {
		measured(w, "death-gap", seconds(gap), "s", victims[i].Name+" "+settings)
	}
	w.lossless(calm, "while another real server died")
}

// awaitDeath waits for the director's verdict.
func (r *rig) awaitDeath(dead *lab.RealServer) {
	r.Helper()
	r.until(20*time.Second, "wait for the verdict on "+dead.Name, func() error {
		rs, err := r.d.Client.RealServer(r.ctx, dead.Name)
		if err == nil && rs.State != "dead" {
			err = errors.New("it is " + rs.State)
		}
		return err
	})
}
