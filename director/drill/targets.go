package drill

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
)

// targets finds the names for all targets of the drill.
func (p *planning) targets() {
	first := true
	for _, s := range p.d.Steps {
		if s.Fault == "" || s.Fault.Befalls() == "cluster" {
			continue
		}
		name, given := p.o.Targets[s.Target]
		if other, ok := p.o.Targets[""]; ok && first {
			name, given = other, true
		}
		first = false
		if _, known := p.plan.Targets[s.Target]; known {
			continue
		}
		if s.Target == Each {
			p.each(name, given)
			continue
		}
		if !given {
			name = p.named(s.Target)
		}
		p.plan.Targets[s.Target] = name
		p.exists(s.Fault, s.Target, name)
	}
}

func (p *planning) each(name string, given bool) {
	for _, d := range p.s.Directors {
		if !given || d.Name == name {
			p.plan.Each = append(p.plan.Each, d.Name)
		}
	}
	slices.Sort(p.plan.Each)
	if len(p.plan.Each) == 0 {
		p.lacks("there is no director %s", name)
	}
}

// named is what a word stands for now; "" if nothing. What is no word is a name.
func (p *planning) named(word string) string {
	switch word {
	case Busiest:
		return p.busiest()
	case Owner, Assigner, Other:
		return p.director(word)
	}
	return word
}

// busiest has the most tunnels of those that have to be in the sample, and of all: so it has the most of the sample, half of which is taken from it.
func (p *planning) busiest() string {
	given, all := map[string]int{}, map[string]int{}
	for _, t := range p.able() {
		all[t.RealServer]++
		if slices.Contains(p.o.Sample, t.ID) {
			given[t.RealServer]++
		}
	}
	best := ""
	for name := range all {
		if best == "" || cmp.Or(given[name]-given[best], all[name]-all[best], strings.Compare(best, name)) > 0 {
			best = name
		}
	}
	return best
}

// director is the one that a word stands for.
func (p *planning) director(word string) string {
	var vip netip.Addr
	var owner, assigner, other string
	for _, d := range p.s.Directors {
		if !d.Ready {
			continue
		}
		for _, a := range d.Holds {
			if !vip.IsValid() || a.Less(vip) {
				vip, owner = a, d.Name
			}
		}
		if d.Assigns {
			assigner = d.Name
		}
	}
	for _, d := range p.s.Directors { // neither of both, if there is one, else not the owner: with that alone there is none
		if d.Ready && d.Name != owner && (other == "" || other == assigner) {
			other = d.Name
		}
	}
	switch word {
	case Owner:
		return owner
	case Assigner:
		return assigner
	}
	return other
}
