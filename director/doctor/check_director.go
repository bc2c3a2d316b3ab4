package doctor

import (
	"context"
	"fmt"
	"time"

	"tunneldirector/director/api"
)

// director looks at the director itself: is it ready, does it take changes, is all placed.
func (e *exam) director(context.Context) error {
	s, err := e.status()
	if err != nil {
		return err
	}
	for _, why := range s.NotReady {
		e.find(api.Breaks, e.Name, time.Time{}, "the director is not ready: "+why, "with other directors it holds no address; changes may be refused", "director status; director cluster status")
	}
	if s.Frozen {
		e.find(api.Risks, e.Name, time.Time{}, "automatic moves are stopped by "+s.FrozenBy, "a real server that dies is not failed over: its tunnels are down until it is back, or automatic moves are allowed", "director unfreeze")
	}
	c := s.Tunnels
	if c.Unplaced > 0 {
		e.find(api.Breaks, "", time.Time{}, fmt.Sprintf("%d tunnels have no real server", c.Unplaced), "their packets are dropped", "director tunnel list --placed no; each says why: most often room is missing: director realserver add")
	}
	if c.Contested > 0 {
		e.find(api.Risks, "", time.Time{}, fmt.Sprintf("%d tunnels want an endpoint or a subnet that another tunnel holds", c.Contested), "what they share goes to the other tunnel's real server",
			"director tunnel list --json | jq 'select(.contested)'; correct one of the two in the NMS")
	}
	if c.NoBackup > 0 && len(s.RealServers) > 1 {
		e.find(api.Risks, "", time.Time{}, fmt.Sprintf("%d tunnels have no backup", c.NoBackup), "if their real server dies they are down until they are placed anew", "director realserver list; another host with room, or a repin, gives them one")
	}
	for _, missing := range s.NPlusOne.Missing {
		e.find(api.Risks, "", time.Time{}, "no room for the death of a host: "+missing, "after that death some tunnels have no real server", "director realserver add, or raise capacity")
	}
	return nil
}
