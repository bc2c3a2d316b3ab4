package place

import (
	"fmt"
	"strings"
)

// Full is the error of a group that no real server may take. It is about real servers as they are at this moment.
type Full struct {
	Refusals []Refusal // at most four; one for each real server, in the order of View.Servers
	More     int       // how many further ones
}

// A Refusal says why one real server does not take a group.
type Refusal struct {
	Server string
	Reason string
}

func (f *Full) Error() string {
	if len(f.Refusals) == 0 {
		return "no real server serves it"
	}
	return "no real server has room: " + sentence(f.Refusals, f.More)
}

const named = 4 // how many real servers a sentence names: it is kept with each unplaced group

func sentence(refusals []Refusal, more int) string {
	parts := make([]string, 0, named+1)
	for _, r := range refusals {
		parts = append(parts, r.Server+" "+r.Reason)
	}
	if more > 0 {
		parts = append(parts, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(parts, ", ")
}

func newFull(c *scene) *Full {
	f := &Full{}
	f.Refusals, f.More = c.refusals(c.refusal)
	return f
}

// refusals asks why for each real server, once for each name: a dead incarnation is of no interest where there is a
// later one. Those for which why is "" are left out.
func (c *scene) refusals(why func(*Server) string) (list []Refusal, more int) {
	for i := range c.Servers {
		s := &c.Servers[i]
		if i+1 < len(c.Servers) && c.Servers[i+1].Name == s.Name && !s.Alive {
			continue
		}
		reason := why(s)
		switch {
		case reason == "":
		case len(list) == named:
			more++
		default:
			list = append(list, Refusal{s.Name, reason})
		}
	}
	return list, more
}

func (c *scene) refusal(s *Server) string {
	switch {
	case !s.Alive:
		return "is dead"
	case c.excludes(s.Index):
		return "is excluded (a tunnel of another tenant there has an overlapping subnet)"
	case !s.Open || s.Weight == 0:
		return "is " + s.closedWord()
	}
	return fmt.Sprintf("is full (%d/%d tunnels, %d wanted)", c.load(s).Tunnels, s.Capacity, c.wants.Tunnels)
}

func (c *scene) whyNoBackup(p *Server) string {
	round := c.surroundings(p, nil)
	list, more := c.refusals(func(s *Server) string {
		switch {
		case s.Index == p.Index || s.Name == p.Name && !s.Alive:
			return ""
		case !s.Alive:
			return "is dead"
		case c.excludes(s.Index):
			return c.refusal(s)
		case !round.oneHost && sameHost(s, p):
			return "is on the same host"
		}
		need := uint64(c.load(s).Tunnels) + uint64(c.wants.Tunnels)
		for _, q := range round.dying {
			if q.near > 0 {
				need += uint64(c.Pair(q.index, s.Index).Tunnels)
			}
		}
		return fmt.Sprintf("would hold %d/%d tunnels if %s dies", need, s.Capacity, p.host())
	})
	if len(list) == 0 {
		return "there is no other real server"
	}
	return sentence(list, more)
}
