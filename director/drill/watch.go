package drill

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	watchEvery = 500 * time.Millisecond
	blindFor   = 10 * time.Second // without knowing the state: then conditions may hold that nobody sees
)

// watch looks for abort conditions until ctx ends. The error is the one that holds.
func (r *run) watch(ctx context.Context) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	known := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if tunnel, silent := r.mute(r.d.Abort.Outage); tunnel != "" {
			return fmt.Errorf("tunnel %s has been silent for %s; it aborts at %s", tunnel, silent.Round(time.Millisecond), r.d.Abort.Outage)
		}
		s, err := stateOf(ctx, r.w)
		switch {
		case err == nil:
			known = time.Now()
			if why := r.d.Abort.holds(s, r.plan.Sample); why != "" {
				return errors.New(why)
			}
		case ctx.Err() == nil && time.Since(known) >= blindFor:
			return fmt.Errorf("the state has not been known for %s: %w", blindFor, err)
		}
	}
}

// holds says which condition of the state holds; "" if none.
func (a Abort) holds(s State, sample []Tunnel) string {
	alive := count(s.RealServers, func(r RealServer) bool { return r.Alive })
	ready := count(s.Directors, func(d Director) bool { return d.Ready })
	at := s.places()
	unplaced := count(sample, func(t Tunnel) bool { return at[t.ID] == "" })
	switch {
	case alive < a.RealServers:
		return fmt.Sprintf("%s alive; it aborts below %d", some(alive, "real server"), a.RealServers)
	case ready < a.Directors:
		return fmt.Sprintf("%s ready; it aborts below %d", some(ready, "director"), a.Directors)
	case a.Unplaced > 0 && unplaced >= a.Unplaced:
		return fmt.Sprintf("%s of the sample without a real server; it aborts at %d", some(unplaced, "tunnel"), a.Unplaced)
	}
	return ""
}

// places are the real servers of tunnels.
func (s State) places() map[string]string {
	at := make(map[string]string, len(s.Tunnels))
	for _, t := range s.Tunnels {
		at[t.ID] = t.RealServer
	}
	return at
}
