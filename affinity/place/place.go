package place

import (
	"slices"

	"tunneldirector/affinity"
)

// A Server is one incarnation of a real server, as placement sees it.
type Server struct {
	Index    affinity.Index
	Name     string
	Host     string // "": a machine of its own
	Zone     string // "": not said; it is then never in another zone than anybody
	Weight   uint32
	Capacity uint32 // tunnels; 0 is no limit
	Open     bool   // alive, not drained, weight above 0: may take new pins
	Shut     string // why it is not Open though neither drained nor of weight 0, as an adjective; "": it is not so
	Alive    bool
	Load     affinity.Load // of the pins whose primary it is, of all services
}

// A View is what placement looks at. It does not count the group that is to be placed.
type View struct {
	Servers []Server // those that serve the group's services, sorted by Name, then Index
	// Others are the other real servers: they take nothing, but share hosts with those that do. May be nil.
	Others []Server
	// Pair is the load of the pins with this primary and this backup. It is called often: keep it cheap.
	Pair   func(primary, backup affinity.Index) affinity.Load
	Mean   uint64 // bit/s that a tunnel without expectation counts as; 0 is 1
	Policy affinity.Policy
	Turn   uint64 // round robin: how many placements were made so far
}

// A Demand is a group that wants a place.
type Demand struct {
	Load    affinity.Load
	Apart   []affinity.Index // primaries of the groups that it wants to be apart from
	Aside   []affinity.Index // their backups: avoided where Apart leaves a choice
	Exclude []affinity.Index // never, neither as primary nor as backup
}

// A Choice is where a group goes. Backup is 0 if there is none.
type Choice struct {
	Primary, Backup affinity.Index
	Notes           []string // why it is worse than wished
}

func (s *Server) host() string {
	if s.Host != "" {
		return s.Host
	}
	return s.Name
}

func sameHost(a, b *Server) bool { return a.host() == b.host() }

// sameZone is true where zones are not said: nothing is then known to be apart.
func sameZone(a, b *Server) bool { return a.Zone == "" || b.Zone == "" || a.Zone == b.Zone }

// A scene is a View and a Demand with what several steps need of them.
type scene struct {
	*View
	wants affinity.Load
	never []affinity.Index
	mean  uint64
	dead  []affinity.Index // dead, but pins still name them as primary: their backups carry the load
	apart []*Server        // what Demand.Apart names
	aside []*Server
}

// scratch keeps a scene of the usual size off the heap.
type scratch struct {
	dead         [16]affinity.Index
	apart, aside [16]*Server
}

func newScene(v *View, d *Demand, mem *scratch) scene {
	c := scene{View: v, wants: d.Load, never: d.Exclude, mean: max(v.Mean, 1), dead: mem.dead[:0]}
	for _, list := range [2][]Server{v.Servers, v.Others} {
		for i := range list {
			if s := &list[i]; !s.Alive && s.Load.Tunnels > 0 {
				c.dead = append(c.dead, s.Index)
			}
		}
	}
	c.apart = v.resolve(d.Apart, mem.apart[:0])
	c.aside = v.resolve(d.Aside, mem.aside[:0])
	return c
}

// resolve finds real servers by index. Those that the View does not show cannot be shared, and are left out.
func (v *View) resolve(indices []affinity.Index, list []*Server) []*Server {
	for _, i := range indices {
		if s := v.find(i); s != nil {
			list = append(list, s)
		}
	}
	return list
}

// all iterates over Servers and Others.
func (v *View) all(yield func(*Server) bool) {
	for _, list := range [2][]Server{v.Servers, v.Others} {
		for i := range list {
			if !yield(&list[i]) {
				return
			}
		}
	}
}

func (v *View) find(i affinity.Index) *Server {
	for s := range v.all {
		if s.Index == i {
			return s
		}
	}
	return nil
}

// load is what s carries now: its own pins, and those that it has taken over and that were not rewritten yet.
func (c *scene) load(s *Server) affinity.Load {
	l := s.Load
	for _, d := range c.dead {
		l = l.Add(c.Pair(d, s.Index))
	}
	return l
}

// weight is never 0, so that a real server of weight 0 can be compared as a backup.
func (s *Server) weight() float64 { return float64(max(s.Weight, 1)) }

// fits tells whether s can carry so many tunnels.
func (s *Server) fits(tunnels uint64) bool { return s.Capacity == 0 || tunnels <= uint64(s.Capacity) }

// A distance says how far a real server is from others.
type distance uint8

const (
	here      distance = iota // the same real server
	otherRS                   // another one on the same host
	otherHost                 // in the same zone, or zones are not said
	otherZone
)

// distanceTo is the distance from s to the nearest of them.
func (s *Server) distanceTo(them []*Server) distance {
	nearest := otherZone
	for _, o := range them {
		nearest = min(nearest, s.between(o))
	}
	return nearest
}

func (s *Server) between(o *Server) distance {
	switch {
	case s.Index == o.Index:
		return here
	case sameHost(s, o):
		return otherRS
	case sameZone(s, o):
		return otherHost
	}
	return otherZone
}

func (c *scene) excludes(i affinity.Index) bool {
	return len(c.never) > 0 && slices.Contains(c.never, i)
}
