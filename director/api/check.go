package api

import (
	"context"
	"net/http"

	"tunneldirector/affinity"
)

// A Trier is a Director that can tell what would become of changes.
type Trier interface {
	// Try answers changes as Do would if they were made together, those again that are refused while others get through,
	// and makes none.
	Try(ctx context.Context, ops []affinity.Op) ([]affinity.Result, error)
}

// A CheckRequest is a configuration to be judged: what it does not name stays as it is.
type CheckRequest struct {
	Services    []Service    `json:"services,omitempty"`
	Tenants     []Tenant     `json:"tenants,omitempty"`
	RealServers []RealServer `json:"real_servers,omitempty"`
}

// A CheckAnswer tells of each record what would become of it, in the request's order: services, tenants, real servers.
type CheckAnswer struct {
	Results []CheckResult `json:"results"`
}

// A CheckResult is what would become of one record.
type CheckResult struct {
	Object   string   `json:"object" doc:"service ipsec"`
	Changed  bool     `json:"changed"`
	Created  bool     `json:"created"`
	Warnings []string `json:"warnings,omitempty"`
	Problem  *Problem `json:"problem,omitempty" doc:"it would be refused"`
}

type checkOutput struct{ Body CheckAnswer }

func (s *Server) checkRecords(ctx context.Context, _ *struct{}) (*checkOutput, error) {
	var w CheckRequest
	if err := readObject(ctx, &w); err != nil {
		return nil, err
	}
	d, ok := s.d.(Trier)
	if !ok {
		return nil, unsupported("checking records")
	}
	c := check{by: callerOf(ctx).actor()}
	c.read(s.d.Table(), &w)
	results, err := d.Try(ctx, c.ops)
	if err != nil {
		return nil, asProblem(err)
	}
	for i, r := range results {
		out := &c.results[c.at[i]]
		if r.Err != nil {
			out.Problem = asProblem(r.Err)
			continue
		}
		out.Changed, out.Created, out.Warnings = r.Changed || r.Created, r.Created, r.Warnings
	}
	return &checkOutput{CheckAnswer{c.results}}, nil
}

// A check is records on their way to becoming changes.
type check struct {
	by      affinity.Actor
	results []CheckResult
	ops     []affinity.Op
	at      []int // op -> its result
}

func (c *check) read(t *affinity.Table, w *CheckRequest) {
	c.results = []CheckResult{}
	for _, x := range w.Services {
		rec, f := x.record()
		c.add("service "+x.Name, f, affinity.PutService{By: c.by, Service: rec})
	}
	for _, x := range w.Tenants {
		rec, f := x.record()
		c.add("tenant "+x.Name, f, affinity.PutTenant{By: c.by, Tenant: rec})
	}
	for _, x := range w.RealServers {
		admin := affinity.Active
		if old, ok := t.RealServer(x.Name); ok {
			admin = old.Admin
		}
		rec, f := x.record(admin)
		c.add("real server "+x.Name, f, affinity.PutRealServer{By: c.by, RealServer: rec})
	}
}

func (c *check) add(object string, f faults, op affinity.Op) {
	p := f.problem(object)
	c.results = append(c.results, CheckResult{Object: object, Problem: p})
	if p == nil {
		c.ops, c.at = append(c.ops, op), append(c.at, len(c.results)-1)
	}
}

// Check asks what would become of records, and changes nothing.
func (c *Client) Check(ctx context.Context, r CheckRequest) ([]CheckResult, error) {
	a, err := call[CheckAnswer](ctx, c, http.MethodPost, "/v1/check", nil, r)
	return a.Results, err
}
