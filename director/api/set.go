package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"tunneldirector/affinity"
)

// A SetHeader is the first line of a complete set.
type SetHeader struct {
	Count      *int   `json:"count" nullable:"false" minimum:"0" doc:"how many tunnels follow; a body with fewer or more changes nothing"`
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
	if in.Owner == affinity.LearnedOwner {
		return nil, invalid("owner", in.Owner, "owns what nobody announced", "the name of the token whose set it is")
	}
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
	start := planner.Stamp() // before waiting: what is pushed meanwhile is newer
	_, w := requestOf(ctx)
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(setPatience + idleTimeout)) // its turn may be late
	if err := s.beginSet(ctx, setPatience); err != nil {
		return nil, err
	}
	c := &completeSet{s: s, in: in, owner: owner, by: affinity.Actor{Name: owner}, begun: time.Now(), start: start, lines: map[string]int{}, spoilt: map[string]bool{}}
	var plan *affinity.Plan
	defer func() {
		if plan == nil { // refused, or this program failed
			s.endSet()
		}
	}()
	var err error
	if plan, err = c.takeIn(ctx, planner); err != nil {
		return nil, err
	}
	return &huma.StreamResponse{Body: func(huma.Context) {
		defer s.endSet()
		c.answer(ctx, plan)
	}}, nil
}

// beginSet waits for its turn.
func (s *Server) beginSet(ctx context.Context, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select {
	case s.sets <- struct{}{}:
		return nil
	case <-ctx.Done():
	case <-stopping(ctx):
	}
	p := problem(http.StatusServiceUnavailable, kindUnavailable, "nothing was changed: another complete set is being taken in")
	p.RetryAfter = 10
	return p
}

func (s *Server) endSet() { <-s.sets }

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
	lines    map[string]int    // id -> line
	refused  []StreamLine      // the first of them
	refusals int               // all
	spoilt   map[string]bool   // ids of refused lines
	nameless bool              // a refused line gave no id: anything unnamed may be meant by it
	kept     map[string]string // id -> why it is not deleted
	sieve    sieve
	warnings []string
	sum      Summary
}

// takeIn reads the set and plans it; the plan is nil if there is an error.
func (c *completeSet) takeIn(ctx context.Context, planner Planner) (*affinity.Plan, error) {
	r, w := requestOf(ctx)
	rc := http.NewResponseController(w)
	_ = rc.EnableFullDuplex() // so that a refusal can be sent before the body's end
	if err := c.read(ctx, &streamBody{r: r.Body, setDeadline: rc.SetReadDeadline, stopping: stopping(ctx)}); err != nil {
		drain(r.Body, rc)
		endWithAnswer(w, r)
		return nil, err
	}
	return c.plan(ctx, planner)
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
	return c.sieve.garbage
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
	c.sieve.take(it)
	if first, twice := c.lines[it.id]; twice && it.id != "" && it.problem == nil {
		it.problem = invalid("id", it.id, fmt.Sprintf("stands in line %d already", first), "one line a tunnel")
	}
	if it.problem != nil {
		if c.refusals++; c.sieve.tells() {
			c.refused = append(c.refused, StreamLine{Line: it.line, ID: it.id, Error: it.problem})
		}
		c.spoilt[it.id] = true
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
	if owned == 0 && c.owner != callerOf(ctx).name {
		c.warnings = append(c.warnings, "owner "+clip(c.owner)+" had no tunnels: if it is not new, look at how it is spelled")
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
		return nil, problem(http.StatusConflict, kindDeletions, "nothing was changed: the set would delete too much",
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
		case c.spoilt[tun.ID]:
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
