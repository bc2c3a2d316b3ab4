package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"tunneldirector/affinity"
)

// check finds out whether all of the table could be made so, and what would change.
func (im *tableImport) check(ctx context.Context, planner Planner, trier Trier) error {
	t, reserved, err := planner.Scratch(ctx)
	if err != nil {
		return asProblem(err)
	}
	im.records(t)
	if im.faulty > 0 {
		return im.refusal()
	}
	results, err := trier.Try(ctx, im.ops)
	if err != nil {
		return asProblem(err)
	}
	for i, res := range results {
		if res.Err != nil {
			im.fault(headLine, im.objects[i], asProblem(res.Err))
		}
	}
	if im.faulty > 0 {
		return im.refusal()
	}
	im.sum.Lines, im.sum.DryRun = len(im.tunnels)+2, im.in.DryRun
	for i, res := range results {
		im.name(im.objects[i], res.Created, res.Changed)
	}
	im.scratch(t, results)
	im.tryTunnels(t, reserved)
	if im.faulty > 0 {
		return im.refusal()
	}
	return nil
}

// name notes what is created or changed.
func (im *tableImport) name(object string, created, changed bool) {
	n := &im.sum.Names
	switch {
	case created:
		n.Create = first(n.Create, object)
	case changed:
		n.Change = first(n.Change, object)
	}
	if im.in.DryRun {
		im.sum.count(false, affinity.Result{Created: created, Changed: changed, Pin: affinity.Pin{Primary: 1}})
	}
}

// scratch makes the records so in a copy of the table, for its tunnels to be tried.
func (im *tableImport) scratch(t *affinity.Table, results []affinity.Result) {
	for i, op := range im.ops {
		if !results[i].Changed && !results[i].Created {
			continue
		}
		switch op := op.(type) {
		case affinity.PutService:
			next := *op.Service
			if old, ok := t.Service(next.Name); ok {
				next.Header, next.Num = old.Header, old.Num
			} else {
				next.Num = t.FreeServiceNumber()
			}
			t.PutService(&next)
		case affinity.PutTenant:
			next := *op.Tenant
			if old, ok := t.Tenant(next.Name); ok {
				next.Header, next.Num = old.Header, old.Num
			} else if next.Name != "" {
				next.Num = t.FreeTenantNumber()
			}
			t.PutTenant(&next)
		case affinity.PutRealServer:
			next := *op.RealServer
			t.PutRealServer(&next)
		}
	}
	t.Take()
}

// tryTunnels puts the tunnels into a copy of the table, and tells which do not fit.
func (im *tableImport) tryTunnels(t *affinity.Table, reserved []netip.Prefix) {
	created := affinity.NewStamp(im.begun, 0)
	var put []tableEntry
	for i, e := range im.last() {
		object := "tunnel " + e.tunnel.ID
		if _, r := t.CheckTunnel(e.tunnel, im.actor(e.owner), reserved, true); r != nil {
			if r.Reason != affinity.Stale { // newer here: it is left alone
				im.fault(e.line, object, refusalProblem(r))
			} else if im.in.DryRun {
				im.sum.Newer++
			}
			continue
		}
		next := *e.tunnel
		next.Owner, next.Created = e.owner, created+affinity.Stamp(i)
		old, exists := t.Tunnel(next.ID)
		if exists {
			next.Header, next.Created, next.Roamed = old.Header, old.Created, old.Roamed
			if !old.Learned() {
				next.Owner = old.Owner
			}
			next.Generation = max(next.Generation, old.Generation)
			if affinity.SameIntent(old, &next) {
				im.name(object, false, false)
				continue
			}
		}
		t.MakeWay(&next, func(other *affinity.Tunnel, deleted bool) {
			if deleted {
				t.DeleteTunnel(other)
			} else {
				t.PutTunnel(other)
			}
		})
		t.PutTunnel(&next)
		t.Take()
		im.name(object, !exists, true)
		put = append(put, tableEntry{line: e.line, tunnel: &next, contested: e.contested})
	}
	for _, e := range put {
		if lost := t.Contested(e.tunnel); len(lost) > 0 && !e.contested {
			for _, words := range lost {
				im.fault(e.line, "tunnel "+e.tunnel.ID, problem(http.StatusConflict, kindConflict, "", FieldError{Problem: words, Remedy: "take it from one of them"}))
			}
		}
	}
}

// answer makes the table so, or only tells what would be.
func (im *tableImport) answer(ctx context.Context) {
	r, w := requestOf(ctx)
	out := newAnswers(w, r)
	out.whole = !im.in.DryRun
	var err error
	if !im.in.DryRun {
		err = im.apply(context.WithoutCancel(ctx), out) // it is read as a whole, so it is applied as a whole
	}
	im.sum.Complete, im.sum.Seconds = err == nil, time.Since(im.begun).Seconds()
	if err != nil {
		im.sum.Why = err.Error()
	}
	im.sum.Revision = im.s.revisionNow()
	if !im.in.DryRun {
		im.sum.Names = SetNames{}
	}
	if err := errors.Join(out.add(StreamLine{Summary: &im.sum}), out.close()); err != nil {
		im.s.o.Log.Warn("import not answered to its end", "error", err)
	}
	im.s.o.Log.Info("table imported", "token", im.by.Name, "dry_run", im.in.DryRun, "created", im.sum.Created, "changed", im.sum.Changed, "refused", im.sum.Refused,
		"seconds", im.sum.Seconds, "why", im.sum.Why)
}

func (im *tableImport) apply(ctx context.Context, out *answers) error {
	if err := im.applyRecords(ctx); err != nil {
		return err
	}
	list := im.last()
	for len(list) > 0 {
		n := min(len(list), chunkLines)
		ops := make([]affinity.Op, n)
		for i, e := range list[:n] {
			ops[i] = affinity.PutTunnel{By: im.actor(e.owner), Tunnel: e.tunnel, Transient: true}
		}
		results, err := im.s.d.Do(ctx, ops)
		if err != nil {
			im.sum.Unanswered += len(list)
			return err
		}
		for i, res := range results {
			if err := im.tell(out, list[i], res); err != nil {
				return err
			}
		}
		if err := out.flush(); err != nil {
			return err
		}
		list = list[n:]
	}
	if im.in.Keep {
		return im.repin(ctx)
	}
	return nil
}

// applyRecords makes the records so, again those that are refused as long as others get through.
func (im *tableImport) applyRecords(ctx context.Context) error {
	ops, objects := im.ops, im.objects
	for len(ops) > 0 {
		results, err := im.s.d.Do(ctx, ops)
		if err != nil {
			return err
		}
		var again []affinity.Op
		var names []string
		for i, res := range results {
			if res.Err != nil {
				again, names, err = append(again, ops[i]), append(names, objects[i]), fmt.Errorf("%s: %w", objects[i], res.Err)
				continue
			}
			im.sum.count(false, affinity.Result{Created: res.Created, Changed: res.Changed, Pin: affinity.Pin{Primary: 1}})
		}
		if len(again) == len(ops) {
			return err
		}
		ops, objects = again, names
	}
	return nil
}

func (im *tableImport) tell(out *answers, e tableEntry, res affinity.Result) error {
	var r *affinity.Refusal
	switch {
	case errors.As(res.Err, &r) && r.Reason == affinity.Stale:
		im.sum.Newer++
	case errors.As(res.Err, &r) && r.Reason == affinity.Unwritable:
		return errDiskFull
	case res.Err != nil: // changed by others since it was checked
		im.sum.Refused++
		return out.add(StreamLine{Line: e.line, ID: e.tunnel.ID, Error: asProblem(res.Err)})
	default:
		im.sum.count(false, res)
		if len(res.Warnings) > 0 {
			im.sum.Warned++
			return out.add(StreamLine{Line: e.line, ID: e.tunnel.ID, Warnings: res.Warnings})
		}
	}
	return nil
}

// repin moves groups to where the table has them, unless they are up.
func (im *tableImport) repin(ctx context.Context) error {
	t := im.s.d.Table()
	var ops []affinity.Op
	seen := map[affinity.GroupID]bool{}
	for _, e := range im.tunnels {
		g := e.tunnel.GroupID()
		if e.primary == "" || seen[g] {
			continue
		}
		seen[g] = true
		if pin, ok := t.Pin(g); !ok || realServerName(t, pin.Primary) != e.primary {
			ops = append(ops, affinity.Repin{By: im.by, Group: g, To: e.primary, Why: affinity.WhyRepinned, Idle: true})
		}
	}
	moved, stayed, why := 0, 0, ""
	for len(ops) > 0 {
		n := min(len(ops), chunkLines)
		results, err := im.s.d.Do(ctx, ops[:n])
		if err != nil {
			return err
		}
		for _, res := range results {
			if res.Err == nil {
				moved++
				continue
			}
			stayed++
			why = asProblem(res.Err).Error()
		}
		ops = ops[n:]
	}
	if moved > 0 {
		im.sum.Warnings = append(im.sum.Warnings, fmt.Sprintf("%d groups were moved to where the table has them", moved))
	}
	if stayed > 0 {
		im.sum.Warnings = append(im.sum.Warnings, fmt.Sprintf("%d groups could not be placed where the table has them, import again to try again; the last one: %s", stayed, why))
	}
	return nil
}
