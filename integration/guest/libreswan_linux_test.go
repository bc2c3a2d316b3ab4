package guest

import (
	"fmt"
	"time"
)

// testEstablish: native ESP and ESP in UDP, each tunnel at one real server with what goes back to it.
func (w *libre) testEstablish() {
	since := w.w.mark()
	begin := time.Now()
	w.call(w.Sites...)
	for _, s := range w.Sites {
		w.arrive(s, 60*time.Second)
	}
	measured(w, "establish-3-tunnels", seconds(time.Since(begin)), "s", "(libreswan, daemons' start included)")
	for _, s := range w.Sites {
		w.ping(s, 3)
		kind := "esp"
		if s.Local != s.Endpoint {
			kind = "esp-in-udp"
		}
		w.together(s, w.placed(s), since, "ike", kind)
	}
	if a, b := w.placed(w.Sites[1]), w.placed(w.Sites[2]); a != b {
		w.Errorf("sites behind one address are at %s and %s", a.Name, b.Name)
	}
}

// testRekey: while new keys are made, of packets and of the control channel, the director loses nothing and nothing moves.
func (w *libre) testRekey() {
	before := w.placements(w.Sites...)
	book := w.open(w.Sites...)
	flows := w.flows(w.Sites...)
	begin := time.Now()
	for _, s := range w.Sites {
		d := w.sites[s]
		child := func() (int, error) { return w.up(d, "vip") }
		ike := func() (int, error) { return d.IKE(w.ctx, "vip") }
		w.renewed("Child SA of "+s.Name, child, func() error { return d.RekeyChild(w.ctx, "vip") })
		w.renewed("IKE SA of "+s.Name, ike, func() error { return d.RekeyIKE(w.ctx, "vip") })
	}
	w.rest(time.Second)
	took := time.Since(begin)
	sent, lost := w.forgiving(flows)
	book.close()
	measured(w, "rekey-lost", lost, "packets", fmt.Sprintf("(libreswan itself: %d sent, 6 rekeys in %s s; the director lost none)", sent, seconds(took)))
	for _, s := range w.Sites {
		w.together(s, w.placed(s), book.since)
		if got := w.placed(s).Name; got != before[s.Name] {
			w.Errorf("%s moved from %s to %s", s.Name, before[s.Name], got)
		}
		w.ping(s, 3)
	}
}

// renewed asks for new keys and waits until the SA's number has risen.
func (w *libre) renewed(what string, number func() (int, error), rekey func() error) {
	w.Helper()
	old, err := number()
	w.must("ask for the "+what, err)
	w.must("rekey the "+what, rekey())
	w.until(30*time.Second, "wait for a new "+what, func() error {
		now, err := number()
		if err == nil && now <= old {
			err = fmt.Errorf("it is #%d, it was #%d", now, old)
		}
		return err
	})
}

// testRepin: the pin moves first, then the old real server ends the tunnel, and the site calls again.
func (w *libre) testRepin() {
	s := w.Sites[0]
	from, to := w.placed(s), w.another(s)
	flow, rest := w.flow(s), w.flows(w.others(s)...)
	w.allFlow(flow)
	w.repin(s.Name, to)
	w.must("say goodbye", w.servers[from].Terminate(w.ctx, s.Name))
	w.arrive(s, 60*time.Second)
	w.flowing(flow, 30*time.Second)
	measured(w, "repin-told-gap", seconds(w.gaps(flow)[0]), "s", libreSettings)
	w.lossless(rest, "while another tunnel was moved")
	since := w.w.mark()
	w.ping(s, 3)
	w.together(s, to, since, "esp")
}
