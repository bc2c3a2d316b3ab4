package api

import (
	"context"
	"net/http"

	"tunneldirector/affinity"
)

func (s *Server) registerRealServers() {
	register(s, op{id: "list-real-servers", method: http.MethodGet, path: "/v1/realservers", needs: needsRead,
		summary: "Real servers, their life and load"}, s.listRealServers)
	register(s, op{id: "get-real-server", method: http.MethodGet, path: "/v1/realservers/{name}", needs: needsRead,
		summary: "One real server"}, s.getRealServer)
	register(s, op{id: "put-real-server", method: http.MethodPut, path: "/v1/realservers/{name}", needs: needsOperator, created: true, body: RealServer{},
		summary: "Create or replace a real server"}, s.putRealServer)
	register(s, op{id: "patch-real-server", method: http.MethodPatch, path: "/v1/realservers/{name}", needs: needsOperator, body: WeightPatch{},
		summary: "Change a real server's weight; it moves nothing"}, s.patchRealServer)
	register(s, op{id: "delete-real-server", method: http.MethodDelete, path: "/v1/realservers/{name}", needs: needsOperator,
		summary: "Remove a real server that no tunnel is placed on; force: also one that has tunnels, which are placed anew at once, up or not"}, s.deleteRealServer)
	register(s, op{id: "drain-real-server", method: http.MethodPost, path: "/v1/realservers/{name}/drain", needs: needsOperator, body: DrainRequest{}, optional: true,
		summary: "No new tunnels. With a rate or a deadline those that it has are moved; without a body they stay"}, s.drain)
	register(s, op{id: "undrain-real-server", method: http.MethodPost, path: "/v1/realservers/{name}/undrain", needs: needsOperator,
		summary: "New tunnels again; a drain ends, and what it moved stays moved"}, s.undrain)
}

// RealServerList is all real servers.
type RealServerList struct {
	RealServers []RealServerState `json:"real_servers"`
	Revision    string            `json:"revision"`
}

type realServersOutput struct{ Body RealServerList }
type realServerOutput struct{ Body RealServerState }

func (s *Server) listRealServers(ctx context.Context, _ *struct{}) (*realServersOutput, error) {
	out := RealServerList{RealServers: []RealServerState{}, Revision: s.revisionNow()}
	status, err := s.realServerStatus(ctx)
	if err != nil {
		return nil, err
	}
	t := s.d.Table()
	for _, r := range t.RealServers() {
		out.RealServers = append(out.RealServers, realServerState(t, r, status[r.Name]))
	}
	return &realServersOutput{out}, nil
}

func (s *Server) realServerStatus(ctx context.Context) (map[string]*RealServerStatus, error) {
	st, err := s.d.View().Status(ctx)
	if err != nil {
		return nil, asProblem(err)
	}
	out := make(map[string]*RealServerStatus, len(st.RealServers))
	for i := range st.RealServers {
		st.RealServers[i].fill()
		out[st.RealServers[i].Name] = &st.RealServers[i]
	}
	return out, nil
}

func (s *Server) getRealServer(ctx context.Context, in *namePath) (*realServerOutput, error) {
	t := s.d.Table()
	r, ok := t.RealServer(in.Name)
	if !ok {
		return nil, notFound("real server", in.Name)
	}
	status, err := s.realServerStatus(ctx)
	if err != nil {
		return nil, err
	}
	return &realServerOutput{realServerState(t, r, status[r.Name])}, nil
}

func (s *Server) putRealServer(ctx context.Context, in *namePath) (*changedOutput, error) {
	var w RealServer
	if err := readObject(ctx, &w); err != nil {
		return nil, err
	}
	if err := sameName(&w.Name, in.Name); err != nil {
		return nil, err
	}
	admin := affinity.Active
	if old, ok := s.d.Table().RealServer(in.Name); ok {
		admin = old.Admin
	}
	rec, f := w.record(admin)
	if p := f.problem("real server " + in.Name); p != nil {
		return nil, p
	}
	return s.change(ctx, affinity.PutRealServer{By: callerOf(ctx).actor(), RealServer: rec})
}

// A WeightPatch changes a weight.
type WeightPatch struct {
	Weight *uint32 `json:"weight" doc:"relative; 0 takes no new pins"`
}

func (s *Server) patchRealServer(ctx context.Context, in *namePath) (*changedOutput, error) {
	var w WeightPatch
	if err := readObject(ctx, &w); err != nil {
		return nil, err
	}
	if w.Weight == nil {
		return nil, invalid("weight", "", "is missing", "a number from 0 to 65535")
	}
	old, ok := s.d.Table().RealServer(in.Name)
	if !ok {
		return nil, notFound("real server", in.Name)
	}
	rec := *old
	rec.Weight = *w.Weight
	return s.change(ctx, affinity.PutRealServer{By: callerOf(ctx).actor(), RealServer: &rec})
}

type deleteRealServerInput struct {
	Name  string `path:"name" maxLength:"128"`
	Force bool   `query:"force" doc:"its groups are placed anew"`
}

func (s *Server) deleteRealServer(ctx context.Context, in *deleteRealServerInput) (*changedOutput, error) {
	return s.change(ctx, affinity.DeleteRealServer{By: callerOf(ctx).actor(), Name: in.Name, Force: in.Force})
}
