package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"tunneldirector/director/agent"
	"tunneldirector/director/api"
)

// silentFor is how long an agent may be away before people are told.
const silentFor = time.Minute

// agents looks at what agents say, and whether they say anything.
func (e *exam) agents(context.Context) error {
	if e.Agents == nil {
		return errors.New("no agents are heard: agents.listen is not in director.yaml")
	}
	for _, a := range e.Agents() {
		switch {
		case a.Terminator == "":
			continue // never seated
		case !a.Connected:
			if e.now.Sub(a.Since) >= silentFor {
				e.find(api.Risks, a.RealServer, a.Since, fmt.Sprintf("the agent of %s is silent", a.RealServer), "its deaths are noticed later, and its tunnels are taken for up by their packets only", "on host "+a.Host+": systemctl status realserver; realserver status")
			}
			continue
		case a.Status.Health == agent.HealthHeadless:
			e.find(api.Breaks, a.RealServer, a.Status.Since, fmt.Sprintf("the control process of the terminator of %s is gone: %s", a.RealServer, a.Status.Cause), "established tunnels go on until they rekey, new ones are not taken", "on host "+a.Host+": restart the terminator")
		case a.Status.Health == agent.HealthDead:
			e.find(api.Breaks, a.RealServer, a.Status.Since, fmt.Sprintf("the agent of %s says that its terminator is dead: %s", a.RealServer, a.Status.Cause), "its tunnels are moved to their backups", "on host "+a.Host+": start the terminator")
		}
		if a.Status.Load.Full {
			e.find(api.Risks, a.RealServer, time.Time{}, fmt.Sprintf("real server %s is full: %.0f %% of its limit", a.RealServer, float64(a.Status.Load.Permille)/10), "it gets no new tunnels", "director realserver show "+a.RealServer+"; director rebalance; or add a real server")
		}
		for _, f := range a.Status.Found {
			severity := f.Severity
			if !slices.Contains([]string{api.Breaks, api.Risks, api.Notes}, severity) {
				severity = api.Risks
			}
			e.find(severity, a.RealServer, time.Time{}, fmt.Sprintf("on host %s of real server %s (%s): %s", a.Host, a.RealServer, f.ID, f.What), f.Causes, "on host "+a.Host+": "+f.Remedy)
		}
	}
	return nil
}

// seenTold is how many tunnels at the wrong place are told one by one.
const seenTold = 5

// tunnels looks whether tunnels are established where their packets go.
func (e *exam) tunnels(ctx context.Context) error {
	if e.Seen == nil || e.Agents == nil || len(e.Agents()) == 0 {
		return errors.New("no agent tells where tunnels are established")
	}
	counts := map[string]int{}
	err := e.Seen(ctx, []string{api.SeenWrong, api.SeenUnknown, api.SeenNot}, func(x api.SeenTunnel) bool {
		if counts[x.State]++; counts[x.State] > seenTold || x.State != api.SeenWrong {
			return true
		}
		since := time.Time{}
		if x.Since != nil {
			since = *x.Since
		}
		e.find(api.Breaks, x.Tunnel, since, fmt.Sprintf("tunnel %s is established at %s, and its packets go to %s", x.Tunnel, x.At, x.Pinned), "its packets come where nobody knows their keys: the tunnel is down until its site dials again",
			fmt.Sprintf("director repin %s %s takes its packets to where it is; or wait for the site", x.Tunnel, x.At))
		return true
	})
	if err != nil {
		return err
	}
	if n := counts[api.SeenWrong]; n > seenTold {
		e.find(api.Breaks, "", time.Time{}, fmt.Sprintf("in all %d tunnels are established where their packets do not go", n), "they are down until their sites dial again", "director seen --state wrong-place")
	}
	if n := counts[api.SeenNot]; n > 0 {
		e.find(api.Risks, "", time.Time{}, fmt.Sprintf("%d tunnels are up by the NMS's word, and not by that of their real server's agent", n), "they are down, or the NMS has not noticed", "director seen --state not-up")
	}
	if n := counts[api.SeenUnknown]; n > 0 {
		e.find(api.Notes, "", time.Time{}, fmt.Sprintf("%d established tunnels belong to none that was announced", n), "if they move, nobody places them", "director seen --state unknown; announce them, or let the service learn")
	}
	return nil
}
