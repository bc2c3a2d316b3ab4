package guest

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"tunneldirector/director/api"
	"tunneldirector/integration/daemon"
	"tunneldirector/integration/lab"
)

// TestAgents: native ESP and ESP behind NAT, in IPv4 and IPv6, between unmodified sites and real servers with an agent: a drain
// and a death are followed by tunnels that the successors begin.
func TestAgents(t *testing.T) {
	onPlanes(t, func(t *testing.T, plane string) {
		r := newRig(t, setup{plane: plane, lab: lab.Options{Sites: 3, RealServers: 2, IPv6: true, BehindNAT: 1}, service: ipsec("dr"), agents: true})
		w := r.startSwan()
		r.serve(r.Sites...)
		w.startAgents()
		for _, s := range w.Sites {
			w.call(s, kindOfSite{})
		}
		for _, s := range w.Sites {
			w.arrive(s, 30*time.Second)
		}
		w.run("told", (*swan).testTold)
		w.run("drain", (*swan).testDrainAdopted)
		w.run("death", (*swan).testDeathAdopted)
	})
}

// startAgents starts an agent on each real server, which asks charon.
func (w *swan) startAgents() {
	w.Helper()
	for _, rs := range w.RealServers {
		a, err := daemon.NewAgent(w.Lab, rs, w.authority, daemon.AgentOptions{
			Binary: os.Getenv("REALSERVER"), Dir: w.files, Log: w.Output(), Protocols: []string{"esp", "udp/500", "udp/4500"},
			Terminator: "{kind: strongswan, socket: /run/charon.vici, proposals: [aes128gcm16-prfsha256-ecp256]}",
		})
		w.must("configure an agent", err)
		w.must("start an agent", a.Start())
	}
}

// heard waits until the agents of real servers have told of so many tunnels.
func (w *swan) heard(established int, servers ...*lab.RealServer) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, time.Minute)
	defer cancel()
	w.must("hear the agents", w.d.Heard(ctx, established, servers...))
}

// testTold: what agents see is what is wanted.
func (w *swan) testTold() {
	w.heard(len(w.Sites), w.RealServers...)
	w.until(20*time.Second, "see what is wanted", func() error {
		seen, err := w.d.Client.Seen(w.ctx, api.SeenFilter{States: []string{api.SeenRight, api.SeenWrong, api.SeenUnknown, api.SeenNot}})
		if err != nil {
			return err
		}
		for _, s := range seen.Seen {
			if s.State != api.SeenRight {
				return fmt.Errorf("agents see %+v", s)
			}
		}
		if len(seen.Seen) != len(w.Sites) {
			return fmt.Errorf("agents see %d tunnels, want %d", len(seen.Seen), len(w.Sites))
		}
		return nil
	})
}

// testDrainAdopted: a real server is emptied; its tunnels are begun by the other one.
func (w *swan) testDrainAdopted() {
	from := w.placed(w.Sites[0])
	to := w.another(w.Sites[0])
	flows := w.flows(w.Sites...)
	w.allFlow(flows...)
	_, err := w.d.Client.Drain(w.ctx, from.Name, api.DrainRequest{Rate: "10/s"})
	w.must("drain", err)
	for _, s := range w.Sites {
		w.until(90*time.Second, s.Name+" is moved to "+to.Name, func() error {
			if got := w.placed(s); got != to {
				return fmt.Errorf("it is at %s", got.Name)
			}
			return nil
		})
		w.arrive(s, 30*time.Second)
	}
	for _, f := range flows {
		w.flowing(f, 20*time.Second)
	}
	for i, gap := range w.gaps(flows...) {
		measured(w, "drain-adopted-gap", seconds(gap), "s "+w.Sites[i].Name, settings)
	}
	_, err = w.d.Client.Undrain(w.ctx, from.Name)
	w.must("undrain", err)
}

// testDeathAdopted: the host of all tunnels' real server is cut off.
func (w *swan) testDeathAdopted() {
	dead := w.placed(w.Sites[0])
	w.heard(len(w.Sites), dead)
	flows := w.flows(w.Sites...)
	w.allFlow(flows...)
	begin := time.Now()
	w.must("cut the cables", w.SetCable(dead.DR, false))
	w.must("cut the cables", w.SetCable(dead.Inner, false))
	for _, f := range flows {
		w.flowing(f, 60*time.Second)
	}
	w.Logf("all flow again %s after the cut", seconds(time.Since(begin)))
	for i, gap := range w.gaps(flows...) {
		measured(w, "death-adopted-gap", seconds(gap), "s "+w.Sites[i].Name, settings)
	}
}
