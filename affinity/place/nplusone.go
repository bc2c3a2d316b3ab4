package place

import (
	"fmt"
	"strings"

	"tunneldirector/affinity"
)

// A Report tells whether any one host (and, where there are several zones, any one zone) may die.
type Report struct {
	OK          bool     // whichever dies, all its tunnels go on, within the capacity of those that inherit them
	Missing     []string // a sentence for each host or zone of which that is not so
	Unprotected uint32   // tunnels without a live backup, now
}

// NPlusOne looks at each host and zone of v.Servers and v.Others; the caller passes all real servers.
func NPlusOne(v View) Report {
	var mem scratch
	c := newScene(&v, &Demand{}, &mem)
	r := Report{Unprotected: c.unprotected()}
	for _, g := range c.failing() {
		if problem := c.afterDeath(g); problem != "" {
			r.Missing = append(r.Missing, g.what+": "+problem)
		}
	}
	r.OK = len(r.Missing) == 0 && r.Unprotected == 0
	return r
}

// A failing is a set of live real servers that die together.
type failing struct {
	what    string // "host h1 dies"
	members []*Server
}

// failing lists hosts, then zones if there are two or more, in the order in which their first real server comes.
func (c *scene) failing() []failing {
	var hosts, zones []failing
	at := map[string]int{}
	add := func(list *[]failing, what string, s *Server) {
		i, known := at[what]
		if !known {
			i = len(*list)
			at[what] = i
			*list = append(*list, failing{what: what})
		}
		(*list)[i].members = append((*list)[i].members, s)
	}
	for s := range c.all {
		if !s.Alive {
			continue
		}
		add(&hosts, fmt.Sprintf("host %s dies", s.host()), s)
		if s.Zone != "" {
			add(&zones, fmt.Sprintf("zone %s dies", s.Zone), s)
		}
	}
	if len(zones) < 2 {
		return hosts
	}
	return append(hosts, zones...)
}

// afterDeath says what is not as it should be after the death of g; "" if all is well.
func (c *scene) afterDeath(g failing) string {
	dead := make(map[affinity.Index]bool, len(g.members))
	var lost, held, stranded uint64 // tunnels of g; of these, those that somebody inherits; taken over by g already
	for _, m := range g.members {
		dead[m.Index] = true
		lost += uint64(m.Load.Tunnels)
		stranded += uint64(c.load(m).Tunnels - m.Load.Tunnels)
	}
	var problems []string
	for s := range c.all {
		if !s.Alive || dead[s.Index] {
			continue
		}
		inherits := uint64(0)
		for _, m := range g.members {
			inherits += uint64(c.Pair(m.Index, s.Index).Tunnels)
		}
		held += inherits
		if will := uint64(c.load(s).Tunnels) + inherits; inherits > 0 && !s.fits(will) {
			problems = append(problems, fmt.Sprintf("%s would hold %d/%d tunnels (%d too many)", s.Name, will, s.Capacity, will-uint64(s.Capacity)))
		}
	}
	if alone := lost - min(held, lost) + stranded; alone > 0 {
		problems = append(problems, fmt.Sprintf("%d of its %d tunnels have no live backup outside it", alone, lost+stranded))
	}
	return strings.Join(problems, ", ")
}

// unprotected counts tunnels that the next death may take down: no live backup, or running on it already.
func (c *scene) unprotected() uint32 {
	n := uint64(0)
	for p := range c.all {
		if p.Load.Tunnels == 0 {
			continue
		}
		covered := uint64(0)
		if p.Alive {
			for b := range c.all {
				if b.Alive && b.Index != p.Index {
					covered += uint64(c.Pair(p.Index, b.Index).Tunnels)
				}
			}
		}
		n += uint64(p.Load.Tunnels) - min(covered, uint64(p.Load.Tunnels))
	}
	return uint32(n)
}
