package cluster

import (
	"net/netip"
	"time"

	"tunneldirector/integration/daemon"
	"tunneldirector/integration/lab"
)

// A watcher sees an address come to a director, and the first packet to it.
type watcher struct {
	r    *rig
	a    netip.Addr
	at   *lab.Director
	wire *lab.Capture
	held chan time.Time
}

// watch begins to look whether a VIP comes to a director that does not hold it.
func (r *rig) watch(vip netip.Addr, at *lab.Director) *watcher {
	r.Helper()
	w := &watcher{r: r, a: vip, at: at, held: make(chan time.Time, 1)}
	var err error
	w.wire, err = r.Switch.Capture(at.Sites.Outlet())
	r.must("listen", err)
	go func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for r.ctx.Err() == nil {
			if got, err := daemon.Holds(at, vip); err != nil || got {
				w.held <- time.Now()
				return
			}
			<-tick.C
		}
	}()
	return w
}

// report waits until it has come, and says how long after an event.
func (w *watcher) report(act string, event time.Time) {
	w.r.Helper()
	held, first := w.came(act, event)
	w.r.Logf("MEASURED %s: VIP %s moved to %s after %.2f s, first packet there after %.2f s", act, w.a, w.at.Title, held.Seconds(), first.Seconds())
}

// came waits until it has come, and a packet to it.
func (w *watcher) came(act string, event time.Time) (held, first time.Duration) {
	w.r.Helper()
	defer w.wire.Close()
	select {
	case at := <-w.held:
		held = at.Sub(event)
	case <-time.After(30 * time.Second):
		w.r.Fatalf("%s: VIP %s did not come to %s", act, w.a, w.at.Title)
	}
	w.r.until(15*time.Second, "wait for a packet to the VIP's new owner", func() error {
		for _, s := range w.wire.Seen() {
			if s.MAC == [6]byte(w.at.Sites.MAC) && s.Dst == w.a && s.DstPort == lab.WireGuardPort && s.At.After(event) {
				first = s.At.Sub(event)
				return nil
			}
		}
		return errNotYet
	})
	return held, first
}
