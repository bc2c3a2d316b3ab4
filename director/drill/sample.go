package drill

import (
	"maps"
	"slices"
	"strings"
)

// able are the tunnels that may be in the sample, by id.
func (p *planning) able() []Tunnel {
	alive := map[string]bool{}
	for _, r := range p.s.RealServers {
		alive[r.Name] = r.Alive
	}
	var list []Tunnel
	for _, t := range p.s.Tunnels {
		if t.Up && alive[t.RealServer] {
			list = append(list, t)
		}
	}
	slices.SortFunc(list, func(a, b Tunnel) int { return strings.Compare(a.ID, b.ID) })
	return list
}

// sample chooses tunnels: those that have to be there, then from the targets up to half, then from all real servers in turn.
func (p *planning) sample() {
	left := map[string][]Tunnel{} // by real server
	for _, t := range p.able() {
		if slices.Contains(p.o.Sample, t.ID) {
			p.plan.Sample = append(p.plan.Sample, t)
			continue
		}
		left[t.RealServer] = append(left[t.RealServer], t)
	}
	for _, id := range p.o.Sample {
		if !slices.ContainsFunc(p.plan.Sample, func(t Tunnel) bool { return t.ID == id }) {
			p.lacks("tunnel %s, which is to be in the sample, is not up at a real server that is alive", id)
		}
	}
	p.take(left, p.struck, (p.d.Sample.Tunnels+1)/2)
	p.take(left, slices.Sorted(maps.Keys(left)), p.d.Sample.Tunnels)
	slices.SortFunc(p.plan.Sample, func(a, b Tunnel) int { return strings.Compare(a.ID, b.ID) })
	if len(p.plan.Sample) == 0 {
		p.lacks("no tunnel is up that packets could be sent through")
		return
	}
	for _, name := range p.struck {
		if !slices.ContainsFunc(p.plan.Sample, func(t Tunnel) bool { return t.RealServer == name }) {
			p.lacks("no tunnel that is up is at real server %s", name)
		}
	}
}

// take adds tunnels of real servers in turn until the sample has so many, or there are no more.
func (p *planning) take(left map[string][]Tunnel, from []string, upTo int) {
	for took := true; took; {
		took = false
		for _, name := range from {
			if list := left[name]; len(list) > 0 && len(p.plan.Sample) < upTo {
				p.plan.Sample, left[name], took = append(p.plan.Sample, list[0]), list[1:], true
			}
		}
	}
}
