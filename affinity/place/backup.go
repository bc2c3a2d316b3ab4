package place

import (
	"fmt"

	"tunneldirector/affinity"
)

// A rank says how good a backup is, the lower the better.
type rank uint8

const (
	wholeZone rank = iota // survives all that the primary does not: its zone, or its host where zones are not said
	tightZone             // in another zone, but too small for the death of the primary's whole zone
	hostOnly              // in the same zone, though there are others
	oneHost               // on the same host: there is no other
	closed                // added to the above: alive, but drained or of weight 0
	noBackup  rank = 2 * closed
)

// A backup is what was found. srv is nil if there is none, and rank is then noBackup.
type backup struct {
	srv   *Server
	rank  rank
	sep   separation
	score float64 // load over weight after the primary's death
	tie   float64
}

// ChooseBackup chooses a backup for a group of which the primary is settled, and says why it is none or worse than
// wished. The View must not count the group's own backup.
func ChooseBackup(v View, d Demand, primary affinity.Index) (affinity.Index, string) {
	var mem scratch
	c := newScene(&v, &d, &mem)
	p := v.find(primary)
	if p == nil {
		p = &Server{Index: primary, Name: fmt.Sprintf("index %d", primary)}
	}
	b := c.backup(p)
	note := c.backupNote(p, b)
	if b.srv == nil {
		return 0, note
	}
	return b.srv.Index, note
}

// MaxPairs is about how many pairs of primary and backup there are at most: a plane may have a nexthop and a destination for
// each, and walk through them. Below that every real server may back up every other one; above it, each primary's groups have so many
// different backups as its share allows, but minPartners at least.
const (
	MaxPairs    = 2048
	minPartners = 8
)

// A partnership is who backs up a primary's groups already: a bit per index.
type partnership [affinity.MaxIndex/64 + 1]uint64

func (p *partnership) has(i affinity.Index) bool { return p[i/64]>>(i%64)&1 != 0 }

// backup looks for the real server that, after the death of p's zone, host or itself, is loaded least; where p has as many
// different backups as it may, among these, unless a better kind of backup is among the others.
func (c *scene) backup(p *Server) backup {
	var known partnership
	if !c.partners(p, &known) {
		return c.backupOf(p, nil)
	}
	best := c.backupOf(p, &known)
	if best.rank == wholeZone {
		return best
	}
	if other := c.backupOf(p, nil); other.rank < best.rank {
		return other
	}
	return best
}

// partners fills in known, and tells whether p may have no more.
func (c *scene) partners(p *Server, known *partnership) bool {
	most := max(minPartners, MaxPairs/len(c.Servers))
	if len(c.Servers)-1 <= most {
		return false
	}
	n := 0
	for i := range c.Servers {
		if s := &c.Servers[i]; s.Index != p.Index && c.Pair(p.Index, s.Index).Tunnels > 0 {
			known[s.Index/64] |= 1 << (s.Index % 64)
			n++
		}
	}
	return n >= most
}

// backupOf looks among some, or all.
func (c *scene) backupOf(p *Server, among *partnership) backup {
	var scratch [64]neighbour
	round := c.surroundings(p, scratch[:0])
	best := backup{rank: noBackup}
	plain := len(c.apart)+len(c.aside) == 0
	for i := range c.Servers {
		s := &c.Servers[i]
		if s.Index == p.Index || !s.Alive || c.excludes(s.Index) || among != nil && !among.has(s.Index) {
			continue
		}
		if plain && best.rank == wholeZone && best.score < c.load(s).Add(c.wants).Bits(c.mean)/s.weight() {
			continue // it has more already than the best will have
		}
		c.consider(p, s, &round, &best)
	}
	return best
}

func (x *backup) before(y *backup) bool {
	if x.rank != y.rank {
		return x.rank < y.rank
	}
	if x.sep != y.sep {
		return x.sep.over(y.sep)
	}
	return x.score < y.score || x.score == y.score && x.tie < y.tie
}

// consider puts s into best if it is the better backup of a group on p. What s inherits is counted once for each level
// at which it would: so that not only the death of a zone is spread evenly, but also that of each host and each real
// server in it.
func (c *scene) consider(p, s *Server, round *surroundings, best *backup) {
	near, far := sameHost(s, p), !sameZone(s, p)
	if near && !round.oneHost {
		return
	}
	sum := c.load(s).Add(c.wants)
	byHost, byZone := uint64(sum.Tunnels), uint64(sum.Tunnels)
	tunnels, unknown, bits := byHost, uint64(sum.Unknown), sum.Bandwidth
	for i := range round.dying {
		q := &round.dying[i]
		times := q.near
		if far {
			times = q.far
		}
		if times == 0 {
			continue
		}
		l := c.Pair(q.index, s.Index)
		byZone += uint64(l.Tunnels)
		if q.near > 0 {
			byHost += uint64(l.Tunnels)
		}
		tunnels += times * uint64(l.Tunnels)
		unknown += times * uint64(l.Unknown)
		bits += times * l.Bandwidth
	}
	if !s.fits(byHost) {
		return
	}
	x := backup{srv: s, score: (float64(bits) + float64(unknown)*float64(c.mean)) / s.weight(), tie: float64(tunnels) / s.weight()}
	switch {
	case near:
		x.rank = oneHost
	case round.zoned && !far:
		x.rank = hostOnly
	case far && !s.fits(byZone):
		x.rank = tightZone
	}
	if !s.Open {
		x.rank += closed
	}
	x.sep = c.separation(s)
	if x.before(best) {
		*best = x
	}
}

// backupNote says why b is none or worse than wished.
func (c *scene) backupNote(p *Server, b backup) string {
	if b.srv == nil {
		return "no backup: " + c.whyNoBackup(p)
	}
	note := ""
	switch b.rank % closed {
	case tightZone:
		note = fmt.Sprintf("backup %s has no room for all that it inherits if zone %s dies", b.srv.Name, p.Zone)
	case hostOnly:
		note = fmt.Sprintf("backup %s is in the same zone %s: none in another zone has room", b.srv.Name, p.Zone)
	case oneHost:
		note = fmt.Sprintf("backup %s is on the same host %s: no other host is alive", b.srv.Name, p.host())
	}
	if b.rank < closed {
		return note
	}
	if note != "" {
		note += "; "
	}
	return note + fmt.Sprintf("backup %s is %s: no other has room", b.srv.Name, b.srv.closedWord())
}

func (s *Server) closedWord() string {
	if s.Weight == 0 {
		return "of weight 0"
	}
	if s.Shut != "" {
		return s.Shut
	}
	return "drained"
}
