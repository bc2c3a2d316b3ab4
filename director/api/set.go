package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"tunneldirector/affinity"
)

// A SetHeader is the first line of a complete set.
type SetHeader struct {
	Count      *int   `json:"count" doc:"how many tunnels follow; a body with fewer or more changes nothing"`
	Generation uint64 `json:"generation,omitempty" doc:"of every tunnel that gives none"`
}

type setInput struct {
	DryRun   bool   `query:"dry_run" doc:"change nothing; the counts are what would be"`
	Force    bool   `query:"force" doc:"delete however many, and what is up"`
	Owner    string `query:"owner" maxLength:"128" doc:"operators only; default: the token's name"`
	Progress bool   `query:"progress" doc:"a progress line each second"`
}

// putTunnels reads the whole set before it changes anything. It is in memory while it is compared: about half a KiB a
// tunnel.
func (s *Server) putTunnels(ctx context.Context, in *setInput) (*huma.StreamResponse, error) {
	who := callerOf(ctx)
	owner := who.name
	if in.Owner != "" && in.Owner != owner {
		if who.role != RoleOperator {
			return nil, problem(http.StatusForbidden, kindForbidden, "a set is of its owner",
				FieldError{"owner", clip(in.Owner), "is not this token's name, " + who.name, "leave it out"})
		}
		owner = in.Owner
	}
	planner, ok := s.d.(Planner)
	if !ok {
		return nil, unsupported("pushing a complete set")
	}
	c := &completeSet{s: s, in: in, owner: owner, by: affinity.Actor{Name: owner}, begun: time.Now(), start: planner.Stamp(), lines: map[string]int{}}
	r, w := requestOf(ctx)
	rc := http.NewResponseController(w)
	_ = rc.EnableFullDuplex() // so that a refusal can be sent before the body's end
	if err := c.read(ctx, &streamBody{r: r.Body, setDeadline: rc.SetReadDeadline}); err != nil {
		drain(r.Body, rc)
		return nil, err
	}
	plan, err := c.plan(ctx, planner)
	if err != nil {
		return nil, err
	}
	return &huma.StreamResponse{Body: func(huma.Context) {
		c.answer(ctx, w, plan)
	}}, nil
}

// A completeSet is the wanted set of one owner. One goroutine owns it.
type completeSet struct {
	s     *Server
	in    *setInput
	owner string
	by    affinity.Actor
	begun time.Time
	start affinity.Stamp

	header   *SetHeader
	count    int // of lines after the first
	wanted   []*affinity.Tunnel
	lines    map[string]int // id -> line
	refused  []StreamLine
	nameless bool              // a refused line gave no id: anything unnamed may be meant by it
	kept     map[string]string // id -> why it is not deleted
	anyJSON  bool
	sum      Summary
}

func (c *completeSet) read(ctx context.Context, body *streamBody) error {
	p := &pipeline{body: body, parse: c.parse, stop: body.stop, consume: c.collect}
	err := p.run(ctx)
	var prob *Problem
	switch {
	case errors.As(err, &prob):
		return prob
	case err != nil:
		return problem(http.StatusBadRequest, kindMalformed, "nothing was changed: "+setEndWords(err),
			FieldError{Problem: fmt.Sprintf("ended after %d tunnels", c.count), Remedy: "send the whole set again"})
	case c.header == nil:
		return headerProblem(problem(http.StatusBadRequest, kindMalformed, "the body is empty"))
	case c.count != *c.header.Count:
		return c.countProblem()
	}
	return nil
}

func setEndWords(err error) string {
	if errors.Is(err, errStopping) || errors.Is(err, errNotNDJSON) {
		return err.Error()
	}
	return "the body was cut off: " + err.Error()
}

func (c *completeSet) countProblem() *Problem {
	more := fmt.Sprintf("%d tunnels follow", c.count)
	if c.count > *c.header.Count {
		more = "more tunnels follow"
	}
	return problem(http.StatusUnprocessableEntity, kindInvalid, "nothing was changed",
		FieldError{"count", fmt.Sprint(*c.header.Count), "is not what came: " + more, "send as many lines as count says"})
}

// A setHeaderOp carries the first line through the pipeline.
type setHeaderOp struct {
	affinity.Op
	header SetHeader
}

// parse cannot know which line is the first one, so a line with count is taken for it; collect sorts that out.
func (c *completeSet) parse(data []byte) (string, affinity.Op, *Problem) {
	var h SetHeader
	if len(data) < 100 && decode(data, &h) == nil && h.Count != nil {
		return "", setHeaderOp{header: h}, nil
	}
	id, op, p := parseItem(c.by)(data)
	if _, ok := op.(affinity.DeleteTunnel); ok && p == nil {
		p = invalid("delete", id, "does not belong into a complete set", "leave the tunnel out")
	}
	return id, op, p
}

func headerProblem(p *Problem) *Problem {
	p.Errors = append(p.Errors, FieldError{Field: "count", Problem: "the first line is not the set's header", Remedy: `begin with a line {"count":N}`})
	return p
}

func (c *completeSet) collect(ch *chunk) error {
	for _, it := range ch.items {
		h, isHeader := it.op.(setHeaderOp)
		switch {
		case c.header == nil && isHeader:
			if err := c.begin(h.header); err != nil {
				return err
			}
		case c.header == nil:
			return headerProblem(problem(http.StatusUnprocessableEntity, kindInvalid, "nothing was changed"))
		case isHeader:
			it.op, it.problem = nil, invalid("count", fmt.Sprint(*h.header.Count), "stands in a later line", "only the first line has it")
			c.take(it)
		default:
			c.take(it)
		}
		if c.header != nil && c.count > *c.header.Count {
			return c.countProblem()
		}
	}
	if !c.anyJSON && c.count >= giveUpAfter {
		return errNotNDJSON
	}
	return nil
}

func (c *completeSet) begin(h SetHeader) error {
	c.header = &h
	switch n := *h.Count; {
	case n < 0:
		return invalid("count", fmt.Sprint(n), "is negative", "how many tunnels follow")
	case n > c.s.o.MaxSetLines:
		return problem(http.StatusRequestEntityTooLarge, kindTooLarge, "nothing was changed",
			FieldError{"count", fmt.Sprint(n), "is too large", fmt.Sprintf("at most %d; push in batches instead", c.s.o.MaxSetLines)})
	}
	return nil
}

func (c *completeSet) take(it item) {
	c.count++
	c.anyJSON = c.anyJSON || it.problem == nil || it.problem.Status != http.StatusBadRequest
	if first, twice := c.lines[it.id]; twice && it.id != "" && it.problem == nil {
		it.problem = invalid("id", it.id, fmt.Sprintf("stands in line %d already", first), "one line a tunnel")
	}
	if it.problem != nil {
		c.refused = append(c.refused, StreamLine{Line: it.line, ID: it.id, Error: it.problem})
		c.nameless = c.nameless || it.id == ""
		return
	}
	put := it.op.(affinity.PutTunnel)
	if put.Tunnel.Generation == 0 {
		put.Tunnel.Generation = c.header.Generation
	}
	c.lines[it.id] = it.line
	c.wanted = append(c.wanted, put.Tunnel)
}

// plan compares the set with a copy of the table, and refuses what would delete too much.
func (c *completeSet) plan(ctx context.Context, planner Planner) (*affinity.Plan, error) {
	t, reserved, err := planner.Scratch(ctx)
	if err != nil {
		return nil, asProblem(err)
	}
	owned, err := c.keep(ctx, t)
	if err != nil {
		return nil, asProblem(err)
	}
	day := affinity.NewStamp(c.begun.Add(-24*time.Hour), 0)
	already := t.Deletions(c.owner, day)
	plan := affinity.PlanSet(t, c.by, c.owner, c.start, c.wanted, reserved, func(tun *affinity.Tunnel) bool {
		_, keep := c.kept[tun.ID]
		return keep
	})
	c.wanted = nil // the plan has what it needs
	limit := max(1, (owned+already)*c.s.o.MaxDeletePercent/100)
	if n := len(plan.Deletes); n > 0 && already+n > limit && !c.in.Force && !c.in.DryRun {
		return nil, problem(http.StatusConflict, "too-many-deletions", "nothing was changed: the set would delete too much",
			FieldError{
				Problem: fmt.Sprintf("it leaves out %d of the %d tunnels of %s; with %d deleted in the last 24 h that is over the %d (%d %%) that sets may delete a day",
					n, owned, c.owner, already, limit, c.s.o.MaxDeletePercent),
				Remedy: "look at ?dry_run=true; if it is right, send it with ?force=true",
			})
	}
	return &plan, nil
}

// keep finds what the set does not name and yet is not deleted. It answers how many tunnels the owner has.
func (c *completeSet) keep(ctx context.Context, t *affinity.Table) (owned int, err error) {
	c.kept = map[string]string{}
	refused := map[string]bool{}
	for _, r := range c.refused {
		refused[r.ID] = true
	}
	var unnamed []*affinity.Tunnel
	check := func() bool {
		if len(unnamed) == 0 {
			return true
		}
		var evidence []Evidence
		if evidence, err = c.s.d.View().Up(ctx, unnamed); err != nil {
			return false
		}
		for i, e := range evidence {
			if e.Up {
				c.kept[unnamed[i].ID] = "it is up (" + e.By + ")"
			}
		}
		unnamed = unnamed[:0]
		return true
	}
	t.Tunnels("", func(tun *affinity.Tunnel) bool {
		if tun.Owner != c.owner {
			return true
		}
		owned++
		_, named := c.lines[tun.ID]
		switch {
		case named:
		case refused[tun.ID]:
			c.kept[tun.ID] = "the line that names it was refused"
		case c.nameless:
			c.kept[tun.ID] = "a line without a readable id was refused, which may have meant it"
		case !c.in.Force:
			if unnamed = append(unnamed, tun); len(unnamed) == chunkLines {
				return check()
			}
		}
		return true
	})
	if err == nil {
		check()
	}
	return owned, err
}

// answer applies the plan, or only tells it.
func (c *completeSet) answer(ctx context.Context, w http.ResponseWriter, plan *affinity.Plan) {
	out := newAnswers(w)
	err := c.tellPlan(out, plan)
	if err == nil && !c.in.DryRun {
		err = c.apply(context.WithoutCancel(ctx), out, plan) // it is read as a whole, so it is applied as a whole
	}
	c.sum.Complete, c.sum.Seconds = err == nil, time.Since(c.begun).Seconds()
	if err != nil {
		c.sum.Why = err.Error()
	}
	c.sum.Revision = c.s.revisionNow()
	if err := errors.Join(out.add(StreamLine{Summary: &c.sum}), out.close()); err != nil {
		c.s.o.Log.Warn("complete set not answered to its end", "owner", c.owner, "error", err)
	}
	c.s.o.Log.Info("complete set", "owner", c.owner, "dry_run", c.in.DryRun, "lines", c.sum.Lines, "created", c.sum.Created,
		"changed", c.sum.Changed, "deleted", c.sum.Deleted, "refused", c.sum.Refused, "kept", c.sum.Kept, "seconds", c.sum.Seconds, "why", c.sum.Why)
}

func first(names []string, name string) []string {
	if len(names) < 100 {
		return append(names, name)
	}
	return names
}

// tellPlan answers what is refused and kept, and counts the rest of a dry run.
func (c *completeSet) tellPlan(out *answers, plan *affinity.Plan) error {
	c.sum = Summary{
		Lines: c.count, Owner: c.owner, DryRun: c.in.DryRun, Unchanged: plan.Unchanged, Kept: len(c.kept), Newer: len(plan.Newer),
		Refused: len(c.refused) + len(plan.Refused),
	}
	n := &c.sum.Names
	for _, put := range plan.Puts {
		if put.Seen == 0 {
			n.Create = first(n.Create, put.Tunnel.ID)
		} else {
			n.Change = first(n.Change, put.Tunnel.ID)
		}
		if c.in.DryRun {
			c.sum.count(false, affinity.Result{Created: put.Seen == 0, Changed: true, Pin: affinity.Pin{Primary: 1}})
		}
	}
	for _, d := range plan.Deletes {
		n.Delete = first(n.Delete, d.ID)
	}
	if c.in.DryRun {
		c.sum.Deleted = len(plan.Deletes)
	}
	for _, id := range plan.Newer {
		n.Newer = first(n.Newer, id)
	}
	for _, line := range c.refused {
		if err := out.add(line); err != nil {
			return err
		}
	}
	for i := range plan.Refused {
		if err := out.add(c.refusedLine(&plan.Refused[i])); err != nil {
			return err
		}
	}
	for id, why := range c.kept {
		n.Keep = first(n.Keep, id)
		if err := out.add(StreamLine{ID: id, Kept: why}); err != nil {
			return err
		}
	}
	slices.Sort(n.Keep)
	return out.flush()
}

func (c *completeSet) refusedLine(r *affinity.Refusal) StreamLine {
	const object = "tunnel "
	id := r.Object[min(len(object), len(r.Object)):]
	return StreamLine{Line: c.lines[id], ID: id, Error: refusalProblem(r)}
}

// apply makes the plan true: what changes first, since it may free claims, then what goes, then what is new.
func (c *completeSet) apply(ctx context.Context, out *answers, plan *affinity.Plan) error {
	a := setApplier{c: c, out: out, last: time.Now()}
	for _, put := range plan.Puts {
		if put.Seen != 0 {
			a.add(ctx, put.Tunnel.ID, affinity.PutTunnel{By: c.by, Tunnel: put.Tunnel, Unless: &put.Seen, Transient: true})
		}
	}
	for _, d := range plan.Deletes {
		a.add(ctx, d.ID, affinity.DeleteTunnel{By: c.by, ID: d.ID, Unless: &d.Seen})
	}
	for _, put := range plan.Puts {
		if put.Seen == 0 {
			a.add(ctx, put.Tunnel.ID, affinity.PutTunnel{By: c.by, Tunnel: put.Tunnel, Unless: &put.Seen, Transient: true})
		}
	}
	a.flush(ctx)
	return a.err
}

// A setApplier asks for changes in steps. After an error it does nothing more.
type setApplier struct {
	c    *completeSet
	out  *answers
	ids  []string
	ops  []affinity.Op
	last time.Time
	err  error
}

func (a *setApplier) add(ctx context.Context, id string, op affinity.Op) {
	a.ids, a.ops = append(a.ids, id), append(a.ops, op)
	if len(a.ops) == chunkLines {
		a.flush(ctx)
	}
}

func (a *setApplier) flush(ctx context.Context) {
	ids, ops := a.ids, a.ops
	a.ids, a.ops = nil, nil
	if a.err != nil || len(ops) == 0 {
		return
	}
	results, err := a.c.s.d.Do(ctx, ops)
	if err != nil {
		a.c.sum.Unanswered += len(ops)
		a.err = err
		return
	}
	for i, res := range results {
		if err := a.one(ids[i], ops[i], res); err != nil {
			a.err = err
			return
		}
	}
	if now := time.Now(); a.c.in.Progress && now.Sub(a.last) >= time.Second {
		a.last = now
		sum := &a.c.sum
		done := sum.Created + sum.Changed + sum.Unchanged + sum.Deleted
		_ = a.out.add(StreamLine{Progress: &Progress{done, sum.Refused, now.Sub(a.c.begun).Seconds()}}) // seen at the next flush
	}
	a.err = a.out.flush()
}

func (a *setApplier) one(id string, op affinity.Op, res affinity.Result) error {
	sum := &a.c.sum
	var r *affinity.Refusal
	switch {
	case errors.As(res.Err, &r) && r.Reason == affinity.Stale:
		sum.Newer++
		sum.Names.Newer = first(sum.Names.Newer, id)
	case errors.As(res.Err, &r) && r.Reason == affinity.Unwritable:
		return errDiskFull
	case res.Err != nil:
		sum.Refused++
		return a.out.add(StreamLine{Line: a.c.lines[id], ID: id, Error: asProblem(res.Err)})
	default:
		_, deletes := op.(affinity.DeleteTunnel)
		sum.count(deletes, res)
		if len(res.Warnings) > 0 {
			sum.Warned++
			return a.out.add(StreamLine{Line: a.c.lines[id], ID: id, Warnings: res.Warnings})
		}
	}
	return nil
}
