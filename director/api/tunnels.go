package api

import (
	"context"
	"net/http"
	"slices"
	"time"

	"tunneldirector/affinity"
)

type idPath struct {
	ID string `path:"id" maxLength:"128" doc:"tunnel id"`
}

type putInput struct {
	ID       string `path:"id" maxLength:"128" doc:"tunnel id"`
	Replicas int    `query:"replicas" minimum:"0" maximum:"16" doc:"wait, for 500 ms at most, until so many directors have it, this one counted; 0: all live ones"`
}

func (s *Server) registerTunnels() {
	register(s, op{id: "get-tunnel", method: http.MethodGet, path: "/v1/tunnels/{id}", needs: needsRead,
		summary: "One tunnel, its placement and whether it is up"}, s.getTunnel)
	register(s, op{id: "put-tunnel", method: http.MethodPut, path: "/v1/tunnels/{id}", needs: needsPush, created: true, body: Tunnel{},
		summary: "Create or replace a tunnel; it is durable and programmed when the answer comes. 201: created, 200: replaced or unchanged"}, s.putTunnel)
	register(s, op{id: "delete-tunnel", method: http.MethodDelete, path: "/v1/tunnels/{id}", needs: needsPush,
		summary: "Delete a tunnel; one that does not exist is no error"}, s.deleteTunnel)
	register(s, op{id: "list-tunnels", method: http.MethodGet, path: "/v1/tunnels", needs: needsRead,
		summary: "Tunnels in order of their ids, filtered, a page at a time. total counts all tunnels of the table, not those that the filters let through"}, s.listTunnels)
}

type tunnelOutput struct{ Body TunnelState }

func (s *Server) getTunnel(ctx context.Context, in *idPath) (*tunnelOutput, error) {
	t := s.d.Table()
	tun, ok := t.Tunnel(in.ID)
	if !ok {
		return nil, notFound("tunnel", in.ID)
	}
	states, err := s.states(ctx, t, []*affinity.Tunnel{tun})
	if err != nil {
		return nil, asProblem(err)
	}
	return &tunnelOutput{states[0]}, nil
}

// states renders tunnels of a table with the evidence of now.
func (s *Server) states(ctx context.Context, t *affinity.Table, tunnels []*affinity.Tunnel) ([]TunnelState, error) {
	out := make([]TunnelState, len(tunnels))
	if len(tunnels) == 0 {
		return out, nil
	}
	evidence, err := s.d.View().Up(ctx, tunnels)
	if err != nil {
		return nil, err
	}
	for i, tun := range tunnels {
		out[i] = tunnelState(t, tun, evidence[i])
	}
	return out, nil
}

type putOutput struct {
	Status int
	Body   PutAnswer
}

func (s *Server) putTunnel(ctx context.Context, in *putInput) (*putOutput, error) {
	var w Tunnel
	if err := readObject(ctx, &w); err != nil {
		return nil, err
	}
	if w.ID == "" {
		w.ID = in.ID
	}
	if w.ID != in.ID {
		return nil, invalid("id", w.ID, "is not the id in the path, "+clip(in.ID), "leave it out, or make both the same")
	}
	rec, f := w.record()
	if p := f.problem("tunnel " + in.ID); p != nil {
		return nil, p
	}
	res, err := s.do(ctx, affinity.PutTunnel{By: callerOf(ctx).actor(), Tunnel: rec})
	if err != nil {
		return nil, err
	}
	t := s.d.Table()
	if now, ok := t.Tunnel(in.ID); ok { // else somebody deleted it already
		rec = now
	}
	states, err := s.states(ctx, t, []*affinity.Tunnel{rec})
	if err != nil {
		return nil, asProblem(err)
	}
	states[0].Warnings = res.Warnings
	out := &putOutput{Status: http.StatusOK, Body: PutAnswer{
		TunnelState: states[0], Changed: res.Changed || res.Created, Revision: revision(t, res.Revision), Programmed: s.programmed(ctx, res.Revision, in.Replicas),
	}}
	if res.Created {
		out.Status = http.StatusCreated
	}
	return out, nil
}

// replicasWithin is how long an answer waits for other directors.
const replicasWithin = 500 * time.Millisecond

// programmed names the directors whose data planes have what was acknowledged. It waits a moment for n of them, 0: for all that
// are alive; one that is slow is left out.
func (s *Server) programmed(ctx context.Context, revision uint64, n int) []string {
	names := []string{}
	if v, ok := s.d.View().(Programmer); !ok || v.Programmed() {
		names = append(names, s.o.Name)
	}
	if v, ok := s.d.View().(Replicator); ok {
		ctx, cancel := context.WithTimeout(ctx, replicasWithin)
		defer cancel()
		names = append(names, v.Replicated(ctx, revision, n-1)...)
	}
	slices.Sort(names)
	return names
}

// do asks for one change.
func (s *Server) do(ctx context.Context, op affinity.Op) (affinity.Result, error) {
	results, err := s.d.Do(ctx, []affinity.Op{op})
	if err != nil {
		return affinity.Result{}, asProblem(err)
	}
	if err := results[0].Err; err != nil {
		return affinity.Result{}, asProblem(err)
	}
	return results[0], nil
}

type deleteInput struct {
	ID         string `path:"id" maxLength:"128" doc:"tunnel id"`
	Generation uint64 `query:"generation" doc:"of the push that this undoes; a lower one than known is refused"`
	Replicas   int    `query:"replicas" minimum:"0" maximum:"16" doc:"wait, for 500 ms at most, until so many directors have it, this one counted; 0: all live ones"`
}

type deleteOutput struct{ Body DeleteAnswer }

func (s *Server) deleteTunnel(ctx context.Context, in *deleteInput) (*deleteOutput, error) {
	res, err := s.do(ctx, affinity.DeleteTunnel{By: callerOf(ctx).actor(), ID: in.ID, Generation: in.Generation})
	if err != nil {
		return nil, err
	}
	return &deleteOutput{DeleteAnswer{Deleted: res.Changed, Revision: revision(s.d.Table(), res.Revision), Programmed: s.programmed(ctx, res.Revision, in.Replicas)}}, nil
}

type listOutput struct{ Body TunnelList }

func (s *Server) listTunnels(ctx context.Context, in *listInput) (*listOutput, error) {
	rev := s.revisionNow() // before the table: a watch from here misses nothing
	t := s.d.Table()
	f, err := in.filter(t)
	if err != nil {
		return nil, err
	}
	found, more := f.page(ctx, t, in.Limit)
	if err := ctx.Err(); err != nil {
		return nil, asProblem(err)
	}
	states, err := s.states(ctx, t, found)
	if err != nil {
		return nil, asProblem(err)
	}
	out := TunnelList{Tunnels: states, Total: t.Len(), Revision: rev}
	if more {
		out.Next = CursorAfter(found[len(found)-1].ID)
	}
	return &listOutput{out}, nil
}

// page finds the next tunnels that a filter lets through, and whether there are more.
func (f *filter) page(ctx context.Context, t *affinity.Table, limit int) (found []*affinity.Tunnel, more bool) {
	take := func(tun *affinity.Tunnel) bool {
		if f.matches(t, tun) {
			found = append(found, tun)
		}
		return len(found) <= limit
	}
	switch {
	case f.endpoint.IsValid():
		found = gather(f, t, func(add func(*affinity.Tunnel) bool) { t.ByEndpoint(f.endpoint, add) })
	case f.inside.IsValid():
		found = gather(f, t, func(add func(*affinity.Tunnel) bool) { t.BySubnet(f.tenant, f.inside, add) })
	default:
		seen := 0
		t.Tunnels(f.after, func(tun *affinity.Tunnel) bool {
			seen++
			return (seen%4096 != 0 || ctx.Err() == nil) && take(tun)
		})
	}
	if len(found) > limit {
		return found[:limit], true
	}
	return found, false
}

// gather puts a few tunnels that came by an index into id order.
func gather(f *filter, t *affinity.Table, each func(add func(*affinity.Tunnel) bool)) []*affinity.Tunnel {
	var out []*affinity.Tunnel
	seen := map[string]bool{}
	each(func(tun *affinity.Tunnel) bool {
		if !seen[tun.ID] && tun.ID > f.after && f.matches(t, tun) {
			seen[tun.ID] = true
			out = append(out, tun)
		}
		return true
	})
	slices.SortFunc(out, func(a, b *affinity.Tunnel) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	return out
}

// revisionNow is the point to watch from for what happens after now.
func (s *Server) revisionNow() string {
	t := s.d.Table()
	return revision(t, t.Revision())
}
