package director

import (
	"fmt"
	"time"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
)

// A Stored is the table as it is on disk, before there is a plane for it.
type Stored struct {
	store Store
	table *affinity.Table
	sums  *affinity.Digest
	last  map[string]affinity.Stamp // by origin: the highest
}

// Load reads every record of a store, which is the director's from then on.
func Load(s Store) (*Stored, error) {
	id, revision := s.Identity()
	out := &Stored{store: s, table: affinity.NewTable(id, revision), sums: new(affinity.Digest), last: map[string]affinity.Stamp{}}
	err := s.Load(func(c affinity.Change) error {
		h, err := out.table.Restore(c.Kind, c.Key, c.Value)
		if err != nil {
			return fmt.Errorf("read %s %q: %w", c.Kind, c.Key, err)
		}
		out.last[h.Origin] = max(out.last[h.Origin], h.Stamp)
		out.sums.Add(c.Kind, c.Key, h)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("load the table: %w", err)
	}
	out.table.Take()
	return out, nil
}

// Config is what a plane would be asked to do: for a plane.Checker.
func (s *Stored) Config() plane.Config { return asked(s.table, nil) }

// Endpoints is how many there are at VIPs, at most.
func (s *Stored) Endpoints() int {
	n, _ := s.table.Keys()
	return n
}

// Subnets is how many subnets' routes or entries a plane would be told of.
func (s *Stored) Subnets() int {
	_, n := s.table.Keys()
	return n
}

// take makes the table that is on disk the director's.
func (d *Director) take(s *Stored) {
	d.store, d.work, d.digest = s.store, s.table, s.sums
	d.clock.Observe(s.last[d.o.Name])
	for _, stamp := range s.last {
		d.clock.Follow(stamp, d.o.Now())
	}
	d.turn = uint64(d.work.Len())
	d.events.start(d.work.Revision())
	d.o.Log.Info("table loaded", "tunnels", d.work.Len(), "revision", d.work.Revision(), "store", d.work.StoreID())
	if ahead := d.clock.Ahead(d.o.Now()); ahead > time.Minute {
		d.o.Log.Warn("the clock is behind the table; stamps go on from the table", "behind", ahead)
	}
}
