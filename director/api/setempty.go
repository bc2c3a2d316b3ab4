package api

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"tunneldirector/affinity"
)

// kindDeletions is the problem of a complete set that would delete too much.
const kindDeletions = "too-many-deletions"

// tryEmptySet tells what would become of a complete set without tunnels, and changes nothing. That nothing would be deleted is a
// problem too: it is what has to come of it.
func (s *Server) tryEmptySet(ctx context.Context, by string, r FaultRequest) (*faultOutput, error) {
	planner, ok := s.d.(Planner)
	if !ok {
		return nil, unsupported("pushing a complete set")
	}
	owner, n := s.ownerOf(r.Target)
	if n == 0 {
		return nil, invalid("target", r.Target, "has pushed no tunnels", "an owner of tunnels, or leave it out")
	}
	if err := s.beginSet(ctx, setPatience); err != nil {
		return nil, err
	}
	defer s.endSet()
	now := time.Now()
	c := &completeSet{s: s, in: &setInput{}, owner: owner, by: affinity.Actor{Name: owner}, begun: now, start: planner.Stamp(), lines: map[string]int{}, spoilt: map[string]bool{}}
	plan, err := c.plan(ctx, planner)
	if err == nil && len(plan.Deletes) == 0 {
		err = problem(http.StatusConflict, kindDeletions, fmt.Sprintf("nothing would be deleted: the %d tunnels of %s are up, and are kept", len(c.kept), owner))
	}
	s.o.Log.Info("an empty complete set was tried", "token", by, "owner", owner, "refused", err)
	if err != nil {
		return nil, err
	}
	return &faultOutput{FaultInPlace{ID: r.ID, Kind: r.Kind, Target: owner, Director: s.o.Name, By: by, At: now, Until: now,
		Error: fmt.Sprintf("it would be taken, and delete %d of %d tunnels", len(plan.Deletes), n)}}, nil
}

// ownerOf is how many tunnels an owner has pushed; "": whoever has the most, of several the first by name.
func (s *Server) ownerOf(name string) (owner string, tunnels int) {
	owned := map[string]int{}
	s.d.Table().Tunnels("", func(t *affinity.Tunnel) bool {
		if t.Owner != affinity.LearnedOwner {
			owned[t.Owner]++
		}
		return true
	})
	if name != "" {
		return name, owned[name]
	}
	for o, n := range owned {
		if n > tunnels || n == tunnels && o < owner {
			owner, tunnels = o, n
		}
	}
	return owner, tunnels
}
