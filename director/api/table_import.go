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

type tableInput struct {
	DryRun bool `query:"dry_run" doc:"change nothing; the counts are what would be"`
	Keep   bool `query:"keep_placement" doc:"move what is not up to where the table has it, if that real server is alive"`
}

// importTable reads and checks the whole table before it changes anything.
func (s *Server) importTable(ctx context.Context, in *tableInput) (*huma.StreamResponse, error) {
	planner, ok := s.d.(Planner)
	trier, ok2 := s.d.(Trier)
	if !ok || !ok2 {
		return nil, unsupported("importing a table")
	}
	r, w := requestOf(ctx)
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Now().Add(setPatience + idleTimeout)) // its turn may be late
	if err := s.beginSet(ctx, setPatience); err != nil {
		return nil, err
	}
	im := &tableImport{s: s, in: in, by: callerOf(ctx).actor(), begun: time.Now(), ids: map[string]int{}}
	_ = rc.EnableFullDuplex() // so that a refusal can be sent before the body's end
	err := im.read(ctx, &streamBody{r: r.Body, setDeadline: rc.SetReadDeadline, stopping: stopping(ctx)})
	if err != nil {
		drain(r.Body, rc)
		endWithAnswer(w, r)
	} else {
		err = im.check(ctx, planner, trier)
	}
	if err != nil {
		s.endSet()
		return nil, err
	}
	return &huma.StreamResponse{Body: func(huma.Context) {
		defer s.endSet()
		im.answer(ctx)
	}}, nil
}

// A tableImport is a table on its way into another one. One goroutine owns it.
type tableImport struct {
	s     *Server
	in    *tableInput
	by    affinity.Actor
	begun time.Time

	head    *TableHead
	end     *TableEnd
	tunnels []tableEntry
	ids     map[string]int // id -> line
	faults  []FieldError   // the first of them
	faulty  int            // lines
	sieve   sieve

	ops     []affinity.Op // services, tenants, real servers, then how real servers are emptied
	objects []string      // of ops
	sum     Summary
}

// A tableEntry is a tunnel of the table.
type tableEntry struct {
	line      int
	tunnel    *affinity.Tunnel
	owner     string
	primary   string
	contested bool
}

// A tableOp carries a line through the pipeline.
type tableOp struct {
	affinity.Op
	line   TableLine
	tunnel *affinity.Tunnel
}

func parseTableLine(data []byte) (string, affinity.Op, *Problem) {
	var w TableLine
	if p := decode(data, &w); p != nil {
		return "", nil, p
	}
	n := 0
	for _, is := range []bool{w.Table != nil, w.Tunnel != nil, w.End != nil} {
		if is {
			n++
		}
	}
	if n != 1 {
		return "", nil, invalid("", "", "is not one of table, tunnel and end", "a line as an export has it")
	}
	if w.Tunnel == nil {
		return "", tableOp{line: w}, nil
	}
	rec, f := w.Tunnel.Tunnel.record()
	f.rest(rec.Faults())
	if w.Tunnel.Owner == affinity.LearnedOwner {
		f.add("owner", w.Tunnel.Owner, "owns what nobody announced", "leave the tunnel out: agents see it again")
	}
	if p := f.problem("tunnel " + clip(w.Tunnel.ID)); p != nil {
		return w.Tunnel.ID, nil, p
	}
	return w.Tunnel.ID, tableOp{line: w, tunnel: rec}, nil
}

func (im *tableImport) read(ctx context.Context, body *streamBody) error {
	p := &pipeline{body: body, parse: parseTableLine, stop: body.stop, consume: im.collect}
	err := p.run(ctx)
	var prob *Problem
	switch {
	case errors.As(err, &prob):
		return prob
	case err != nil:
		return problem(http.StatusBadRequest, kindMalformed, "nothing was changed: "+setEndWords(err))
	case im.head == nil && im.faulty == 0:
		return problem(http.StatusBadRequest, kindMalformed, "nothing was changed: the body is empty", FieldError{Field: "table", Problem: "is missing", Remedy: "send what an export wrote"})
	case im.faulty > 0:
		return im.refusal()
	case im.end == nil:
		return problem(http.StatusUnprocessableEntity, kindInvalid, "nothing was changed", FieldError{Field: "end", Problem: fmt.Sprintf("is missing after %d tunnels: the table was cut off", len(im.tunnels)), Remedy: "export it again, or add the end"})
	case im.end.Tunnels != len(im.tunnels):
		return problem(http.StatusUnprocessableEntity, kindInvalid, "nothing was changed",
			FieldError{"end.tunnels", fmt.Sprint(im.end.Tunnels), fmt.Sprintf("is not what came: %d tunnels", len(im.tunnels)), "correct it, or export again"})
	}
	return nil
}

func (im *tableImport) refusal() *Problem {
	errs := im.faults
	if im.faulty > len(errs) {
		errs = append(errs, FieldError{Problem: fmt.Sprintf("faults in %d more lines", im.faulty-len(errs))})
	}
	return problem(http.StatusUnprocessableEntity, kindInvalid, "nothing was changed: the table has faults", errs...)
}

// headLine is where a table's head is.
const headLine = 1

// fault notes what is wrong with a line.
func (im *tableImport) fault(line int, what string, p *Problem) {
	if im.faulty++; im.faulty > maxFaults {
		return
	}
	where := fmt.Sprintf("line %d", line) + after(", ", what)
	if line == headLine { // which has other lines in a file for people
		where = "the head" + after(", ", what)
	}
	for _, e := range p.Errors {
		e.Field = where + after(": ", e.Field)
		im.faults = append(im.faults, e)
	}
	if len(p.Errors) == 0 {
		im.faults = append(im.faults, FieldError{Field: where, Problem: p.Detail})
	}
}

func after(sep, s string) string {
	if s == "" {
		return ""
	}
	return sep + s
}

func (im *tableImport) collect(ch *chunk) error {
	for _, it := range ch.items {
		im.sieve.take(it)
		what := ""
		if it.id != "" {
			what = "tunnel " + clip(it.id)
		}
		if it.problem != nil {
			im.fault(it.line, what, it.problem)
			continue
		}
		x := it.op.(tableOp)
		first, twice := im.ids[it.id]
		switch {
		case im.end != nil:
			return problem(http.StatusUnprocessableEntity, kindInvalid, "nothing was changed", FieldError{Field: fmt.Sprintf("line %d", it.line), Problem: "stands behind the end"})
		case im.head == nil && im.faulty > 0:
			return im.refusal()
		case im.head == nil && x.line.Table == nil:
			return problem(http.StatusUnprocessableEntity, kindInvalid, "nothing was changed", FieldError{Field: "table", Problem: "is missing: the first line is not a table's head"})
		case im.head == nil && x.line.Table.Format != TableFormat:
			return problem(http.StatusUnprocessableEntity, kindInvalid, "nothing was changed",
				FieldError{"format", fmt.Sprint(x.line.Table.Format), "is not known here", fmt.Sprintf("this release reads format %d", TableFormat)})
		case im.head == nil:
			im.head = x.line.Table
		case x.line.Table != nil:
			im.fault(it.line, "", invalid("table", "", "stands twice", ""))
		case x.line.End != nil:
			im.end = x.line.End
		case twice:
			im.fault(it.line, what, invalid("id", it.id, fmt.Sprintf("stands in line %d already", first), "one line a tunnel"))
		case len(im.tunnels) == im.s.o.MaxSetLines:
			return problem(http.StatusRequestEntityTooLarge, kindTooLarge, fmt.Sprintf("nothing was changed: over %d tunnels", im.s.o.MaxSetLines))
		default:
			im.take(it, x)
		}
	}
	return im.sieve.garbage
}

func (im *tableImport) take(it item, x tableOp) {
	im.ids[it.id] = it.line
	e := tableEntry{line: it.line, tunnel: x.tunnel, owner: x.line.Tunnel.Owner, contested: len(x.line.Tunnel.Contested) > 0}
	if e.owner == "" {
		e.owner = im.by.Name
	}
	if p := x.line.Tunnel.Pinned; p != nil {
		e.primary = p.Primary
	}
	im.tunnels = append(im.tunnels, e)
}

// actor is an operator in the name of a tunnel's owner.
func (im *tableImport) actor(owner string) affinity.Actor {
	return affinity.Actor{Name: owner, Any: true}
}

// records are the changes that the head asks for.
func (im *tableImport) records(t *affinity.Table) {
	add := func(object string, f faults, op affinity.Op) {
		if p := f.problem(object); p != nil {
			im.fault(headLine, object, p)
			return
		}
		im.ops, im.objects = append(im.ops, op), append(im.objects, object)
	}
	for _, x := range im.head.Services {
		rec, f := x.record()
		add("service "+x.Name, f, affinity.PutService{By: im.by, Service: rec})
	}
	for _, x := range im.head.Tenants {
		rec, f := x.record()
		add("tenant "+x.Name, f, affinity.PutTenant{By: im.by, Tenant: rec})
	}
	for _, x := range im.head.RealServers {
		rec, f := x.record(affinity.Active)
		object := "real server " + x.Name
		rec.Drain = x.Drain.record(&f)
		if rec.Drain != nil && rec.Admin != affinity.Drained {
			f.add("drain", "", "is that of a real server that is not drained", "admin: drained, or leave it out")
		}
		old, exists := t.RealServer(x.Name)
		add(object, f, affinity.PutRealServer{By: im.by, RealServer: rec})
		if len(f) == 0 && exists && (old.Admin != rec.Admin || !sameDrain(old.Drain, rec.Drain)) {
			add(object, nil, affinity.SetAdmin{By: im.by, Name: x.Name, Admin: rec.Admin, Drain: im.drainOf(x.Name, rec.Drain)})
		}
	}
}

func sameDrain(a, b *affinity.Drain) bool {
	return a == nil && b == nil || a != nil && b != nil && a.Milli == b.Milli && a.By == b.By
}

// drainOf leaves a drain out that would move everything at once, its deadline being over.
func (im *tableImport) drainOf(name string, d *affinity.Drain) *affinity.Drain {
	if d != nil && d.By != 0 && d.By.Time().Before(im.begun) {
		im.sum.Warnings = append(im.sum.Warnings, fmt.Sprintf("real server %s is drained, but nothing of it is moved: the deadline of its drain is over", name))
		return nil
	}
	return d
}

// last are the tunnels in the order to put them in: who holds a claim comes before who contests it.
func (im *tableImport) last() []tableEntry {
	list := slices.Clone(im.tunnels)
	slices.SortStableFunc(list, func(a, b tableEntry) int {
		switch {
		case a.contested == b.contested:
			return 0
		case b.contested:
			return -1
		}
		return 1
	})
	return list
}
