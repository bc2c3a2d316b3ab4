package place

// keepsReserve tells whether s, with the demand on it, still has room for what the death of any one other host (or
// zone) would make it inherit.
func (c *scene) keepsReserve(s *Server) bool {
	if s.Capacity == 0 {
		return true
	}
	need := uint64(c.load(s).Tunnels) + uint64(c.wants.Tunnels)
	room := uint64(s.Capacity) - min(need, uint64(s.Capacity))
	var total, most uint64
	for q := range c.all {
		if q.Alive {
			n := uint64(c.Pair(q.Index, s.Index).Tunnels)
			total, most = total+n, max(most, n)
		}
	}
	switch {
	case total <= room: // even if all died at once
		return true
	case most > room:
		return false
	}
	return c.worstDeath(s, room) <= room
}

// worstDeath is the most that one host's or zone's death makes s inherit; it stops counting above enough.
func (c *scene) worstDeath(s *Server, enough uint64) (worst uint64) {
	var byHost, byZone tally
	for q := range c.all {
		if !q.Alive {
			continue
		}
		n := uint64(c.Pair(q.Index, s.Index).Tunnels)
		if n == 0 {
			continue
		}
		worst = max(worst, byHost.add(q.host(), n))
		if !sameZone(q, s) {
			worst = max(worst, byZone.add(q.Zone, n))
		}
		if worst > enough {
			break
		}
	}
	return worst
}

// A tally adds up numbers by name, on the stack, for at most as many names as an installation has real servers.
// What does not fit any more goes into the slot where the search ends, which errs on the side of caution.
type tally [512]struct {
	name string
	sum  uint64
}

func (t *tally) add(name string, n uint64) uint64 {
	h := uint32(2166136261) // FNV-1a: the same on every director
	for i := range len(name) {
		h = (h ^ uint32(name[i])) * 16777619
	}
	slot := &t[h%uint32(len(t))]
	for try := uint32(1); slot.name != name && slot.name != "" && try < uint32(len(t)); try++ {
		slot = &t[(h+try)%uint32(len(t))]
	}
	slot.name = name
	slot.sum += n
	return slot.sum
}
