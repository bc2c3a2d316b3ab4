package director

import (
	"context"
	"fmt"
	"slices"
	"time"

	"tunneldirector/affinity"
	"tunneldirector/cluster"
	"tunneldirector/director/api"
)

// With other directors a death is provisional first: each fails the real server over in its own data plane at once, and says
// so in its beats.
//
//	probes: dead ─▶ condemned here ─┬─ all live peers say so, too, or cannot tell: the assigner latches it
//	                                ├─ it answers again: absolved
//	                                └─ doubtAfter, and a peer reaches it: absolved; it is this director that cannot, and so
//	                                   it is sick: others are to hold its addresses
//
// A doubt that was absolved stays one, so that the real server is not condemned again before it has answered.

// doubtAfter is how long directors may disagree about a real server: with the time that a word takes the 2 s of design rule 1.
const doubtAfter = 1800 * time.Millisecond

type doubt struct {
	verdict  Verdict
	index    affinity.Index
	since    time.Time
	absolved bool
}

// doubtLife begins to doubt an incarnation that does not answer.
func (d *Director) doubtLife(ctx context.Context, life *affinity.Life, v Verdict) {
	if x := d.joint.doubts[v.RealServer]; x == nil || x.index != life.Index {
		if x != nil {
			d.absolve(v.RealServer, "another incarnation of it is judged now")
		}
		d.condemn(life, v)
		d.tell(api.Event{Kind: "provisional", Object: v.RealServer, From: "alive", To: "dead", Why: "failed over here before the assigner calls it dead: " + v.Cause})
		d.joint.doubts[v.RealServer] = &doubt{verdict: v, index: life.Index, since: d.o.Now()}
		d.say()
	}
	d.settleDoubts(ctx, d.view())
}

// settleDoubts decides what can be decided, and finds out whether it is this director that is cut off.
func (d *Director) settleDoubts(ctx context.Context, v cluster.View) {
	now := d.o.Now()
	for name, x := range d.joint.doubts {
		life, ok := d.work.LifeOf(name)
		if !ok || !life.Alive || life.Index != x.index {
			delete(d.joint.doubts, name)
			d.absolve(name, "the incarnation that was doubted is not the one in use any more")
			continue
		}
		reaching := reachedBy(v, name)
		switch {
		case len(reaching) == 0 && d.assigns && d.holdDeath(name) == "":
			delete(d.joint.doubts, name)
			d.died(ctx, life, x.verdict)
		case len(reaching) > 0 && !x.absolved && now.Sub(x.since) >= doubtAfter: // if nobody reaches it the assigner is late
			why := fmt.Sprintf("%v reach it", reaching)
			d.absolve(name, "this director alone does not reach it: "+why)
			x.absolved = true
			d.note(func(h *health) { h.held[name] = x.verdict.Cause + "; not believed because " + why })
		}
	}
	sick := false
	for name, since := range d.joint.unreached {
		switch life, ok := d.work.LifeOf(name); {
		case !ok:
		case !life.Alive || len(reachedBy(v, name)) == 0:
			d.joint.unreached[name] = now // when it returns, one director finds it first, and the others a moment later
		case now.Sub(since) >= doubtAfter:
			sick = true
		}
	}
	if sick != d.joint.sick {
		d.joint.sick = sick
		if !sick && !d.joint.ready.IsZero() {
			d.joint.ready = now // as one that has come back: what comes and goes does not move addresses each time
		}
		d.o.Log.Warn("reach of real servers", "others_reach_what_this_director_does_not", sick)
		d.tell(api.Event{Kind: "director", Object: d.o.Name, Why: sickWords(sick)})
		d.note(func(h *health) { h.sick = sick })
	}
}

// absolve takes the provisional deaths of a real server back in the data plane, but for incarnations that are dead by now. After a
// partition it may have several that live.
func (d *Director) absolve(name, why string) {
	took := false
	for _, l := range d.work.Lives() {
		if l.RealServer != name || !d.condemned[l.Index] {
			continue
		}
		delete(d.condemned, l.Index)
		if !l.Alive {
			continue
		}
		took = true
		if err := d.o.Plane.SetAlive(l.Index, true); err != nil {
			d.planeFailed(fmt.Errorf("take back the death of real server %s: %w", name, err))
		}
	}
	if took {
		d.o.Log.Warn("real server is not dead after all", "real_server", name, "why", why)
		d.tell(api.Event{Kind: "provisional", Object: name, From: "dead", To: "alive", Why: "not dead after all: " + why})
	}
}

// answers notes that a real server answers this director.
func (d *Director) answers(name, cause string) {
	delete(d.joint.unreached, name)
	if d.joint.doubts[name] != nil {
		delete(d.joint.doubts, name)
		d.absolve(name, "it answers again: "+cause)
	}
}

// judgedAll tells whether there is a verdict on every real server that lives.
func (d *Director) judgedAll() bool {
	judged := map[string]bool{}
	for _, v := range d.o.Prober.Verdicts() {
		judged[v.RealServer] = true
	}
	return !slices.ContainsFunc(d.work.Lives(), func(l *affinity.Life) bool { return l.Alive && !judged[l.RealServer] })
}

// witnessed tells whether a live director that reaches another real server does not reach this one, and none reaches it: then it is
// dead, though this director may be cut off from all of them.
func (d *Director) witnessed(v cluster.View, name string) bool {
	if len(reachedBy(v, name)) > 0 {
		return false
	}
	for _, p := range v.Peers {
		if _, known := p.Beat.Reaches(name); !known || !p.Alive || !p.Beat.Ready || p.Beat.Hung {
			continue
		}
		for _, l := range d.work.Lives() {
			if reaches, _ := p.Beat.Reaches(l.RealServer); reaches && l.Alive {
				return true
			}
		}
	}
	return false
}

// reachedBy are the live directors that a real server answers.
func reachedBy(v cluster.View, name string) []string {
	var out []string
	for _, p := range v.Peers {
		if reaches, known := p.Beat.Reaches(name); p.Alive && !p.Beat.Hung && known && reaches {
			out = append(out, p.Member.Name)
		}
	}
	slices.Sort(out)
	return out
}

// lookAtProbing notes since when this director's word on real servers counts.
func (d *Director) lookAtProbing() {
	if d.o.Prober == nil {
		return
	}
	n, _ := d.o.Prober.Answering()
	if n > 0 && d.joint.probing.IsZero() {
		d.joint.probing = d.o.Now()
	}
	switch {
	case len(d.targets) == 0:
		d.joint.probing = time.Time{}
	case n > 0 && d.o.Now().Sub(d.joint.probing) < afterCut && d.judgedAll():
		d.joint.probing = d.o.Now().Add(-afterCut) // there is nothing to wait for
	}
	for name := range d.joint.unreached {
		if _, exists := d.work.RealServer(name); !exists {
			delete(d.joint.unreached, name)
		}
	}
}
