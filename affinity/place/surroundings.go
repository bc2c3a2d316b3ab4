package place

import "tunneldirector/affinity"

// surroundings are what a primary stands among.
type surroundings struct {
	dying   []neighbour // live real servers that die with it, itself first
	zoned   bool        // a live one that serves the group is in another zone
	oneHost bool        // no live one that serves the group is on another host
}

// A neighbour is a real server that dies with a primary: by the primary's own death, the host's, the zone's.
type neighbour struct {
	index affinity.Index
	near  uint64 // at how many of the levels below the zone; 0: only by the zone's death
	far   uint64 // at how many levels at all
}

func (c *scene) surroundings(p *Server, list []neighbour) surroundings {
	r := surroundings{dying: append(list, neighbour{p.Index, 1, 1}), oneHost: true}
	inZone := p.Zone != ""
	alone := true
	for n, servers := range [2][]Server{c.Servers, c.Others} {
		for i := range servers {
			q := &servers[i]
			if !q.Alive || q.Index == p.Index {
				continue
			}
			host := sameHost(p, q)
			if host {
				alone = false
			}
			if n == 0 {
				r.oneHost = r.oneHost && host
				r.zoned = r.zoned || !sameZone(p, q)
			}
			zone := inZone && p.Zone == q.Zone
			if !host && !zone {
				continue
			}
			d := neighbour{index: q.Index}
			if host {
				d.near, d.far = 1, 1
			}
			if zone {
				d.far++
			}
			r.dying = append(r.dying, d)
		}
	}
	if !alone {
		r.dying[0].near, r.dying[0].far = 2, 2
	}
	if inZone {
		r.dying[0].far++
	}
	return r
}
