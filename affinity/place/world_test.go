package place

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"tunneldirector/affinity"
)

// A world keeps the account that the director's table keeps: what is pinned where.
type world struct {
	servers []Server
	pairs   map[[2]affinity.Index]affinity.Load
	policy  affinity.Policy
	turn    uint64
}

func newWorld(servers ...Server) *world {
	for i := range servers {
		s := &servers[i]
		s.Index = affinity.Index(i + 1)
		if s.Name == "" {
			s.Name = fmt.Sprintf("rs%03d", i+1)
		}
		if s.Weight == 0 {
			s.Weight = 100
		}
		s.Open, s.Alive = true, true
	}
	return &world{servers: servers, pairs: map[[2]affinity.Index]affinity.Load{}}
}

func (w *world) view() View {
	return View{Servers: w.servers, Pair: w.pair, Mean: 1e6, Policy: w.policy, Turn: w.turn}
}

func (w *world) pair(p, b affinity.Index) affinity.Load { return w.pairs[[2]affinity.Index{p, b}] }

func (w *world) server(i affinity.Index) *Server { return &w.servers[i-1] }

func (w *world) pin(c Choice, l affinity.Load) {
	w.server(c.Primary).Load = w.server(c.Primary).Load.Add(l)
	k := [2]affinity.Index{c.Primary, c.Backup}
	w.pairs[k] = w.pairs[k].Add(l)
	w.turn++
}

// unpin takes a group away again, as a delete does.
func (w *world) unpin(c Choice, l affinity.Load) {
	w.server(c.Primary).Load = w.server(c.Primary).Load.Sub(l)
	k := [2]affinity.Index{c.Primary, c.Backup}
	w.pairs[k] = w.pairs[k].Sub(l)
}

// inherited is what s gets if all the real servers in which dies is true die.
func (w *world) inherited(s *Server, dies func(*Server) bool) (l affinity.Load) {
	for i := range w.servers {
		if p := &w.servers[i]; dies(p) {
			l = l.Add(w.pair(p.Index, s.Index))
		}
	}
	return l
}

// spread is max over mean.
func spread(values []float64) float64 {
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	if sum == 0 {
		return 1
	}
	return slices.Max(values) * float64(len(values)) / sum
}

func (w *world) primarySpread() float64 {
	var v []float64
	for i := range w.servers {
		s := &w.servers[i]
		v = append(v, s.Load.Bits(1e6)/s.weight())
	}
	return spread(v)
}

// inheritedSpread is the worst over all deaths told apart by key (host or zone), as load over weight.
func (w *world) inheritedSpread(key func(*Server) string) float64 {
	worst := 0.0
	for _, name := range w.keys(key) {
		dies := func(s *Server) bool { return key(s) == name }
		var v []float64
		for i := range w.servers {
			if s := &w.servers[i]; !dies(s) {
				v = append(v, w.inherited(s, dies).Bits(1e6)/s.weight())
			}
		}
		worst = math.Max(worst, spread(v))
	}
	return worst
}

func (w *world) keys(key func(*Server) string) (names []string) {
	for i := range w.servers {
		if k := key(&w.servers[i]); !slices.Contains(names, k) {
			names = append(names, k)
		}
	}
	return names
}

// overfull lists whom a death of one key would load above capacity, and whom placement did already.
func (w *world) overfull(key func(*Server) string) (list []string) {
	for _, name := range w.keys(key) {
		dies := func(s *Server) bool { return key(s) == name }
		for i := range w.servers {
			s := &w.servers[i]
			if s.Load.Tunnels > s.Capacity && s.Capacity > 0 {
				list = append(list, fmt.Sprintf("%s holds %d/%d", s.Name, s.Load.Tunnels, s.Capacity))
			}
			if n := s.Load.Tunnels + w.inherited(s, dies).Tunnels; !dies(s) && s.Capacity > 0 && n > s.Capacity {
				list = append(list, fmt.Sprintf("%s would hold %d/%d if %s dies", s.Name, n, s.Capacity, name))
			}
		}
	}
	return list
}

func byHost(s *Server) string { return s.host() }
func byZone(s *Server) string { return s.Zone }

func tunnels(n uint32, bandwidth uint64) affinity.Load {
	if bandwidth == 0 {
		return affinity.Load{Tunnels: n, Unknown: n}
	}
	return affinity.Load{Tunnels: n, Bandwidth: bandwidth}
}

func mustChoose(t testing.TB, w *world, d Demand) Choice {
	t.Helper()
	c, err := Choose(w.view(), d)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
