package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"tunneldirector/director/agent"
	"tunneldirector/director/api"
)

// realServers looks at those that are dead, or were never alive.
func (e *exam) realServers(context.Context) error {
	s, err := e.status()
	if err != nil {
		return err
	}
	for _, r := range s.RealServers {
		since, _ := time.Parse(time.RFC3339, r.Since)
		switch {
		case r.State == "dead":
			e.find(api.Breaks, r.Name, since, fmt.Sprintf("real server %s is dead: %s", r.Name, r.Cause), fmt.Sprintf("its tunnels (%d) are at their backups, and no tunnel is placed there", r.Tunnels),
				"director realserver show "+r.Name+"; on it: realserver doctor")
		case r.State == "new" && e.now.Sub(since) > 15*time.Second:
			e.find(api.Breaks, r.Name, since, fmt.Sprintf("real server %s was never seen alive: %s", r.Name, r.Cause), "it gets no tunnels", "on it: realserver doctor; is its address right? director realserver show "+r.Name)
		}
		if r.Drain != nil && r.Drain.Stuck != "" {
			e.find(api.Risks, r.Name, r.Drain.Started, fmt.Sprintf("the drain of real server %s does not go on: %s", r.Name, r.Drain.Stuck), "it cannot be taken out of service", "director realserver list: room elsewhere is missing; or director realserver undrain "+r.Name)
		}
	}
	return nil
}

// dataPath compares how real servers answer on the way that tunnels take with how they answer on others.
func (e *exam) dataPath(context.Context) error {
	s, err := e.status()
	if err != nil {
		return err
	}
	if e.Probes == nil {
		return errors.New("this director probes nobody")
	}
	probed := e.Probes()
	for _, r := range s.RealServers {
		works := r.Agent != nil && r.Agent.Connected && r.Agent.Health == agent.HealthWorking.String()
		var trouble string
		for _, p := range probed {
			if p.Name == r.Name {
				trouble = p.Agent.Trouble
				if !p.Alive && p.Known {
					trouble = firstOf(trouble, p.Cause)
					if r.State == "alive" {
						e.find(api.Breaks, r.Name, p.Since, fmt.Sprintf("real server %s does not answer here, and is not taken for dead: %s", r.Name, r.Cause), "its tunnels may be down", "ip -br link on this director; director cluster status")
					}
				}
			}
		}
		since, _ := time.Parse(time.RFC3339, r.Since)
		switch {
		case works && r.State == "dead" && trouble != "":
			e.find(api.Breaks, r.Name, since, fmt.Sprintf("dead data path, live control path: the agent of %s is connected and its terminator works, and probes by way of the VIP fail: %s", r.Name, trouble),
				"the control connection hides that tunnels get no packets there; they are at their backups",
				"on it: realserver doctor; then the way from this director: ip neigh show, a filter or a switch between; director trace of one of its tunnels")
		case works && trouble != "":
			e.find(api.Risks, r.Name, time.Time{}, fmt.Sprintf("%s answers, but by way of the VIP its agent does not: %s", r.Name, trouble), "it gets no new tunnels, and those that it has may get no packets",
				"on it: realserver doctor (VIP, decapsulation, filter)")
		}
	}
	if e.Reach == nil {
		return nil
	}
	reach := e.Reach()
	for _, r := range s.RealServers {
		x := reach[r.Name]
		if len(x.By) == 0 || len(x.NotBy) == 0 {
			continue
		}
		severity := api.Risks
		if slices.Contains(x.NotBy, e.Name) {
			severity = api.Breaks
		}
		e.find(severity, r.Name, time.Time{}, fmt.Sprintf("real server %s answers %s, and not %s", r.Name, some(x.By), some(x.NotBy)), "packets that come to a director that cannot reach it are lost; such a director gives its addresses up",
			"on "+x.NotBy[0]+": ip neigh show, ip -br link; the switch port or filter between it and "+r.Name)
	}
	return nil
}

func firstOf(words ...string) string {
	i := slices.IndexFunc(words, func(w string) bool { return w != "" })
	if i < 0 {
		return ""
	}
	return words[i]
}

// some names a few.
func some(names []string) string {
	const few = 4
	if len(names) > few {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:few], ", "), len(names)-few)
	}
	return strings.Join(names, ", ")
}
