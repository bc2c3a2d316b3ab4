package director

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/fxamacker/cbor/v2"

	"tunneldirector/affinity"
)

// Only the assigner moves groups. A director that is asked to passes the question on, and gives the answer back.

// question is what one director asks of another's loop.
type question struct {
	_      struct{} `cbor:",toarray"`
	Repins []affinity.Repin
}

// answer is one result for each.
type answer struct {
	_       struct{} `cbor:",toarray"`
	Results []repinned
	Err     string // of the whole
}

type repinned struct {
	_        struct{} `cbor:",toarray"`
	Refusal  *affinity.Refusal
	Changed  bool
	Group    affinity.GroupID
	Pin      affinity.Pin
	Warnings []string
}

// maxForward is how many moves go in one question.
const maxForward = 200

// elsewhere is the director that has to do these changes; "" if this one has. Moves that come with others are done here, or refused.
func (d *Director) elsewhere(ops []affinity.Op) string {
	if d.lone() {
		return ""
	}
	if slices.ContainsFunc(ops, func(op affinity.Op) bool { _, repins := op.(affinity.Repin); return !repins }) {
		return ""
	}
	if name := d.health.Load().assigner; name != d.o.Name {
		return name
	}
	return ""
}

// forward has another director's loop make moves.
func (d *Director) forward(ctx context.Context, name string, ops []affinity.Op) ([]affinity.Result, error) {
	var out []affinity.Result
	for part := range slices.Chunk(ops, maxForward) {
		var q question
		for _, op := range part {
			q.Repins = append(q.Repins, op.(affinity.Repin))
		}
		b, err := cbor.Marshal(q)
		if err != nil {
			return out, fmt.Errorf("ask director %s to move groups: %w", name, err)
		}
		if b, err = d.o.Peers.Ask(ctx, name, b); err != nil {
			return out, fmt.Errorf("ask director %s, which places groups, to move some: %w", name, err)
		}
		var a answer
		if err := cbor.Unmarshal(b, &a); err != nil {
			return out, fmt.Errorf("read director %s's answer: %w", name, err)
		}
		if a.Err != "" || len(a.Results) != len(part) {
			return out, fmt.Errorf("director %s moved %d of %d groups: %s", name, len(a.Results), len(part), a.Err)
		}
		for _, r := range a.Results {
			res := affinity.Result{Changed: r.Changed, Group: r.Group, Pin: r.Pin, Warnings: r.Warnings, Revision: d.Table().Revision()}
			if r.Refusal != nil {
				res.Err = r.Refusal
			}
			out = append(out, res)
		}
	}
	return out, nil
}

// Answer does what another director asks for.
func (d *Director) Answer(ctx context.Context, from string, asked []byte) ([]byte, error) {
	var q question
	if err := cbor.Unmarshal(asked, &q); err != nil {
		return nil, fmt.Errorf("read director %s's question: %w", from, err)
	}
	ops := make([]affinity.Op, len(q.Repins))
	for i, r := range q.Repins {
		ops[i] = r
	}
	var a answer
	if len(ops) > 0 {
		results, err := d.ask(ctx, ops, false)
		if err != nil {
			a.Err = err.Error()
		}
		for _, r := range results {
			x := repinned{Changed: r.Changed, Group: r.Group, Pin: r.Pin, Warnings: r.Warnings}
			if refusal, ok := r.Err.(*affinity.Refusal); ok {
				x.Refusal = refusal
			} else if r.Err != nil {
				a.Err = r.Err.Error()
			}
			a.Results = append(a.Results, x)
		}
	}
	return cbor.Marshal(a)
}

// notHere refuses to move a group where another director places.
func (x *tx) notHere(object string) *affinity.Refusal {
	problem, remedy := "no director places groups at the moment", "try again in a second"
	if name := x.d.joint.assigner; name != "" {
		problem, remedy = fmt.Sprintf("director %s places groups, not this one", name), "try again in a second, or at that director"
	}
	return affinity.Refuse(affinity.Conflict, object, affinity.Fault{Field: "to", Problem: problem, Remedy: remedy})
}

const (
	placedWithin = 500 * time.Millisecond // how long a push waits for the assigner
	fewOps       = 64                     // pushes of more do not wait
)

// awaitPlaced fills in the placements that the assigner makes of tunnels that were pushed here, and says which are still to come.
func (d *Director) awaitPlaced(ctx context.Context, ops []affinity.Op, results []affinity.Result) {
	if d.lone() || len(ops) > fewOps {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, placedWithin)
	defer cancel()
	for i := range results {
		put, is := ops[i].(affinity.PutTunnel)
		if is && results[i].Err == nil && results[i].Pin.Primary == 0 && results[i].Pin.Note == "" {
			d.awaitPin(ctx, put.Tunnel.ID, &results[i])
		}
	}
}

// awaitPin waits until a tunnel has a placement or is known to have none, or ctx ends.
func (d *Director) awaitPin(ctx context.Context, id string, r *affinity.Result) {
	for {
		change, t := d.changed.wait(), d.Table()
		tun, ok := t.Tunnel(id)
		if !ok {
			return // deleted since
		}
		if p, placed := t.PinOf(tun); placed {
			r.Pin, r.Revision = p, t.Revision()
			if p.Primary == 0 {
				r.Warnings = append(r.Warnings, "unplaced: "+p.Note)
			}
			return
		}
		select {
		case <-change:
			continue
		case <-ctx.Done():
		}
		r.Warnings = append(r.Warnings, fmt.Sprintf("pending: director %q has not placed it yet", d.health.Load().assigner))
		return
	}
}
