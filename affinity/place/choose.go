package place

import (
	"math"
	"strings"

	"tunneldirector/affinity"
)

// tries is how many candidates of each list are looked at closely. It bounds the price of a choice where N+1 cannot be
// had, which may be for long.
const tries = 4

// Choose places a group. The error is a *Full: no real server may take it.
func Choose(v View, d Demand) (Choice, error) {
	var mem scratch
	c := newScene(&v, &d, &mem)
	wish, found := c.farthest()
	if !found {
		return Choice{}, newFull(&c)
	}
	p, b := c.pick(wish)
	choice := Choice{Primary: p.Index}
	if note := c.apartNote(p); note != "" {
		choice.Notes = append(choice.Notes, note)
	}
	if b.srv != nil {
		choice.Backup = b.srv.Index
	}
	if note := c.backupNote(p, b); note != "" {
		choice.Notes = append(choice.Notes, note)
	}
	return choice, nil
}

// takes tells whether s may become the primary of d.
func (c *scene) takes(s *Server) bool {
	if !s.Open || s.Weight == 0 || c.excludes(s.Index) {
		return false
	}
	return s.fits(uint64(c.load(s).Tunnels) + uint64(c.wants.Tunnels))
}

// A separation says how well a real server is apart from the groups of a Demand.
type separation struct{ apart, aside distance }

func (a separation) over(b separation) bool {
	return a.apart > b.apart || a.apart == b.apart && a.aside > b.aside
}

func (c *scene) separation(s *Server) separation {
	if len(c.apart)+len(c.aside) == 0 {
		return separation{otherZone, otherZone}
	}
	return separation{s.distanceTo(c.apart), s.distanceTo(c.aside)}
}

// farthest is the best separation that is to be had from a real server with room; false if none has room.
func (c *scene) farthest() (best separation, found bool) {
	plain := len(c.apart)+len(c.aside) == 0
	for i := range c.Servers {
		s := &c.Servers[i]
		if !c.takes(s) {
			continue
		}
		if sep := c.separation(s); !found || sep.over(best) {
			best, found = sep, true
		}
		if plain {
			break // all are alike
		}
	}
	return best, found
}

// pick takes the first candidate that keeps N+1, else the one that does the least harm to it.
func (c *scene) pick(wish separation) (*Server, backup) {
	var best *Server
	var bestBackup backup
	harm := math.MaxInt
	for _, order := range [2]func(separation) shortlist{c.byPolicy, c.byRoom} {
		list := order(wish)
		for _, cand := range list[:] {
			if cand.srv == nil {
				break
			}
			b := c.backup(cand.srv)
			h := int(b.rank)
			if !c.keepsReserve(cand.srv) {
				h += int(noBackup) + 1
			}
			if h < harm {
				best, bestBackup, harm = cand.srv, b, h
			}
			if h == 0 {
				return best, bestBackup
			}
		}
	}
	return best, bestBackup
}

// A shortlist holds the best candidates, best first.
type shortlist [tries]candidate

// A candidate is better the lower its cost, then its tie; equal ones keep the order of Servers.
type candidate struct {
	srv       *Server
	cost, tie float64
}

func (l *shortlist) add(x candidate) {
	for i := range l {
		have := &l[i]
		if have.srv == nil || x.cost < have.cost || x.cost == have.cost && x.tie < have.tie {
			x, *have = *have, x
			if x.srv == nil {
				return
			}
		}
	}
}

func (c *scene) byPolicy(wish separation) shortlist {
	if c.Policy == affinity.RoundRobin {
		return c.byTurn(wish)
	}
	return c.byLoad(wish)
}

func (c *scene) byLoad(wish separation) (list shortlist) {
	for i := range c.Servers {
		s := &c.Servers[i]
		if !c.takes(s) || c.separation(s) != wish {
			continue
		}
		l := c.load(s).Add(c.wants)
		list.add(candidate{s, l.Bits(c.mean) / s.weight(), float64(l.Tunnels) / s.weight()})
	}
	return list
}

// byTurn counts Turn round the real servers with room; cost is how far round the ring a real server is.
func (c *scene) byTurn(wish separation) (list shortlist) {
	n := uint64(0)
	for i := range c.Servers {
		if s := &c.Servers[i]; c.takes(s) && c.separation(s) == wish {
			n++
		}
	}
	at := uint64(0)
	for i := range c.Servers {
		if s := &c.Servers[i]; c.takes(s) && c.separation(s) == wish {
			list.add(candidate{s, float64((at + n - c.Turn%n) % n), 0})
			at++
		}
	}
	return list
}

// byRoom is the second look, where those that the policy prefers would break N+1.
func (c *scene) byRoom(wish separation) (list shortlist) {
	for i := range c.Servers {
		s := &c.Servers[i]
		if !c.takes(s) || c.separation(s) != wish {
			continue
		}
		l, room := c.load(s), math.Inf(1)
		if s.Capacity > 0 {
			room = float64(s.Capacity) - float64(l.Tunnels)
		}
		list.add(candidate{s, -room, l.Add(c.wants).Bits(c.mean) / s.weight()})
	}
	return list
}

// apartNote says where p is nearer than wished to those that d wants to be apart from.
func (c *scene) apartNote(p *Server) string {
	if len(c.apart) == 0 {
		return ""
	}
	wished := otherHost
	for s := range c.all {
		if s.Zone != "" && !sameZone(s, p) {
			wished = otherZone
		}
	}
	var near []string
	for _, s := range c.apart {
		if dist := p.between(s); dist < wished {
			near = append(near, s.Name+" ("+[...]string{"the same real server", "the same host", "the same zone"}[dist]+")")
		}
	}
	if near == nil {
		return ""
	}
	return "not apart from groups on " + strings.Join(near, ", ") + ": none farther away has room"
}
