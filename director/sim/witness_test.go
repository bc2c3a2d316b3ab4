package sim

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"tunneldirector/affinity"
)

// opLabel is the label by which each push can be told from the others.
const opLabel = "op"

// A version names one version of a record.
type version struct {
	recordKey
	affinity.Header
}

// An ack is a push that was answered.
type ack struct {
	version
	words string
	disk  *disk // of who answered
	lost  bool  // the disks that had it are gone
}

// A witness sees every commit of every disk, and what directors answer. It says at once what must not be.
type witness struct {
	w *world

	mu      sync.Mutex
	pushed  map[string]version           // the first version that carries a label, by label
	had     map[*disk]map[string]version // what a disk has ever held, by label
	deleted map[*disk]map[string]version // the last tombstone of a tunnel that its own director wrote
	parent  map[version]version          // of placements: what its writer replaced
	changed map[affinity.GroupID]time.Time
	acks    []*ack
	faults  []string
	causes  map[string]int // of tunnels that were up and were moved
	repins  map[affinity.GroupID]bool
	drained map[string]bool
	trouble bool // two may have assigned since all tables were equal
}

// later is the order of design.md: placements and lives by (epoch, stamp, origin), all else by (stamp, origin). It is written down
// here once more, so that the directors' own is held against it.
func later(k affinity.Kind, a, b affinity.Header) bool {
	var epochs int
	if k == affinity.KindPin || k == affinity.KindLife {
		epochs = cmp.Compare(a.Epoch, b.Epoch)
	}
	return cmp.Or(epochs, cmp.Compare(a.Stamp, b.Stamp), cmp.Compare(a.Origin, b.Origin)) > 0
}

func newWitness(w *world) *witness {
	return &witness{w: w, pushed: map[string]version{}, had: map[*disk]map[string]version{}, deleted: map[*disk]map[string]version{}, parent: map[version]version{},
		changed: map[affinity.GroupID]time.Time{}, causes: map[string]int{}, repins: map[affinity.GroupID]bool{}, drained: map[string]bool{}}
}

func (x *witness) fault(format string, args ...any) {
	x.faults = append(x.faults, fmt.Sprintf(format, args...))
}

// commit looks at what has become durable on a disk. The disk is locked.
func (x *witness) commit(n *node, d *disk, old map[recordKey]affinity.Change, written []affinity.Change) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.had[d] == nil {
		x.had[d], x.deleted[d] = map[string]version{}, map[string]version{}
	}
	for _, c := range written {
		k := recordKey{c.Kind, c.Key}
		was, existed := old[k]
		if c.Value == nil {
			continue
		}
		switch {
		case existed && c.Now == was.Now && !bytes.Equal(c.Value, was.Value):
			x.fault("%s: %s %q differs from what it was in the same version %v", n.name, c.Kind, c.Key, c.Now)
		case existed && c.Now != was.Now && !later(c.Kind, c.Now, was.Now):
			x.fault("%s: %s %q went back on the disk from %v to %v", n.name, c.Kind, c.Key, was.Now, c.Now)
		}
		switch c.Kind {
		case affinity.KindTunnel:
			x.tunnel(n, d, k, was, c)
		case affinity.KindLife:
			x.life(n, was, c)
		case affinity.KindPin:
			x.pin(n, d, k, was, c)
		}
		old[k] = c
	}
}

func (x *witness) tunnel(n *node, d *disk, k recordKey, was, c affinity.Change) {
	tun, err := affinity.DecodeTunnel(c.Value)
	if err != nil {
		x.fault("%s: tunnel %q cannot be read from the disk: %v", n.name, c.Key, err)
		return
	}
	v := version{k, c.Now}
	if tun.Header.Deleted {
		if c.Now.Origin == n.name {
			x.deleted[d][c.Key] = v
		}
		return
	}
	label := tun.Labels[opLabel]
	if _, known := x.pushed[label]; !known {
		x.pushed[label] = v
	}
	if _, known := x.had[d][label]; !known {
		x.had[d][label] = v
	}
	if before, err := affinity.DecodeTunnel(was.Value); was.Value == nil || err != nil || before.Header.Deleted || before.GroupID() != tun.GroupID() || before.Service != tun.Service {
		x.changed[tun.GroupID()] = time.Now()
		x.changed[affinity.GroupID(tun.ID)] = time.Now()
		if before != nil {
			x.changed[before.GroupID()] = time.Now()
		}
	}
}

// life holds that death is latched.
func (x *witness) life(n *node, was, c affinity.Change) {
	if was.Value == nil || c.Now.Deleted || was.Now.Deleted {
		return
	}
	before, err1 := affinity.DecodeLife(was.Value)
	after, err2 := affinity.DecodeLife(c.Value)
	if err1 != nil || err2 != nil {
		x.fault("%s: a life cannot be read from the disk: %v, %v", n.name, err1, err2)
		return
	}
	if !before.Alive && after.Alive && before.RealServer == after.RealServer && before.Incarnation == after.Incarnation {
		x.fault("%s: %s incarnation %d (index %d) was dead and is alive again: %v, then %v", n.name, after.RealServer, after.Incarnation, after.Index, before.Header, after.Header)
	}
}

// pin holds that tunnels which are up are moved for a cause only.
func (x *witness) pin(n *node, d *disk, k recordKey, was, c affinity.Change) {
	v := version{k, c.Now}
	_, known := x.parent[v]
	before := version{k, was.Now}
	own := c.Now.Origin == n.name && !known
	if own {
		x.parent[v] = before
	} else if !known {
		x.fault("%s: placement %q came with a version that nobody wrote: %v", n.name, c.Key, c.Now)
	}
	if was.Value == nil || was.Now.Deleted || c.Now.Deleted {
		return
	}
	from, err1 := affinity.DecodePin(was.Value)
	to, err2 := affinity.DecodePin(c.Value)
	if err1 != nil || err2 != nil {
		x.fault("%s: a placement cannot be read from the disk: %v, %v", n.name, err1, err2)
		return
	}
	fromRS, fromAlive := d.at(from.Primary)
	toRS, _ := d.at(to.Primary)
	if from.Primary == to.Primary || from.Primary == 0 || fromRS == toRS && fromAlive {
		return
	}
	cause := ""
	if own {
		cause = x.cause(d, from, to, fromRS, fromAlive)
	} else if x.follows(v, before) {
		return // judged where it was decided
	} else if x.trouble {
		cause = "merge"
	}
	if cause == "" {
		x.fault("%s: %s was moved from %s (index %d, alive %t) to %s (index %d) without a cause: %v (%v) after %v, own decision %t", n.name, to.Group,
			fromRS, from.Primary, fromAlive, toRS, to.Primary, to.Why, c.Now, was.Now, own)
		return
	}
	x.causes[cause]++
}

// cause is why a director moved a group, if that is allowed.
func (x *witness) cause(d *disk, from, to *affinity.Pin, rs string, alive bool) string {
	byOperator := to.Why == affinity.WhyRepinned || to.Why == affinity.WhyRebalanced || to.Why == affinity.WhyDrained
	switch {
	case !alive:
		return "dead"
	case byOperator && (x.repins[to.Group] || x.drained[rs]):
		return "operator"
	case time.Since(x.changed[to.Group]) < 10*time.Second:
		return "own push"
	case !d.up(to.Group):
		return "not up"
	}
	return ""
}

// follows tells whether a version was written over another one, or over what was written over it.
func (x *witness) follows(v, over version) bool {
	for range 1000 {
		p, ok := x.parent[v]
		if !ok || p == v {
			return false
		}
		if p == over {
			return true
		}
		v = p
	}
	return false
}

// at is the real server that an index means on a disk, and whether that incarnation is alive. The disk is locked.
func (d *disk) at(i affinity.Index) (name string, alive bool) {
	c, ok := d.records[recordKey{affinity.KindLife, affinity.LifeKey(i)}]
	if !ok {
		return "", false
	}
	l, err := affinity.DecodeLife(c.Value)
	if err != nil {
		return "", false
	}
	_, exists := d.records[recordKey{affinity.KindRealServer, l.RealServer}]
	return l.RealServer, l.Alive && exists && !c.Now.Deleted
}

// up tells whether the NMS says of any tunnel that a placement holds for that it is up. The disk is locked.
func (d *disk) up(g affinity.GroupID) bool {
	for k, c := range d.records {
		if k.kind != affinity.KindTunnel || c.Now.Deleted {
			continue
		}
		tun, err := affinity.DecodeTunnel(c.Value)
		if err != nil || tun.State != affinity.StateUp {
			continue
		}
		own, split := d.records[recordKey{affinity.KindPin, tun.ID}]
		if string(g) == tun.ID || tun.GroupID() == g && (!split || own.Now.Deleted) {
			return true
		}
	}
	return false
}

// answered notes that a director has acknowledged a push; its disk must have it.
func (x *witness) answered(n *node, d *disk, words string, op affinity.Op, since time.Time, r affinity.Result) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if r.Err != nil || !r.Changed {
		return
	}
	switch op := op.(type) {
	case affinity.PutTunnel:
		v, ok := x.had[d][op.Tunnel.Labels[opLabel]]
		if !ok {
			x.fault("%s acknowledged what is not on its disk: %s", n.name, words)
			return
		}
		x.acks = append(x.acks, &ack{version: v, words: words, disk: d})
	case affinity.DeleteTunnel:
		v, ok := x.deleted[d][op.ID]
		if !ok {
			x.fault("%s acknowledged what is not on its disk: %s", n.name, words)
			return
		}
		x.acks = append(x.acks, &ack{version: v, words: words, disk: d})
	}
}

// replicated holds that the directors of which another one says that they have a push do have it.
func (x *witness) replicated(n *node, words string, op affinity.Op, r affinity.Result, have []string, disks map[string]*disk) {
	put, is := op.(affinity.PutTunnel)
	if !is || r.Err != nil || !r.Changed {
		return
	}
	x.mu.Lock()
	v := x.pushed[put.Tunnel.Labels[opLabel]]
	x.mu.Unlock()
	now := x.w.disks()
	for _, name := range have {
		d := disks[name]
		if d == nil || d != now[name] {
			continue // it came, or its disk was replaced, meanwhile
		}
		if c, ok := d.record(v.kind, v.key); !ok || later(v.kind, v.Header, c.Now) {
			x.mu.Lock()
			x.fault("%s says that %s has %s, and it has not", n.name, name, words)
			x.mu.Unlock()
		}
	}
}

// diskLost forgives what no disk has any more.
func (x *witness) diskLost() {
	live := slices.Collect(maps.Values(x.w.disks()))
	x.mu.Lock()
	acks := slices.Clone(x.acks)
	x.mu.Unlock()
	for _, a := range acks {
		kept := slices.ContainsFunc(live, func(d *disk) bool {
			c, ok := d.record(a.kind, a.key)
			return ok && !later(a.kind, a.Header, c.Now)
		})
		a.lost = a.lost || !kept
	}
}

// take gives the faults found so far.
func (x *witness) take() []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	out := x.faults
	x.faults = nil
	return out
}
