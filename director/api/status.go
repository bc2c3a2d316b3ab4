package api

import (
	"context"
	"net/http"
	"net/netip"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

func (s *Server) registerStatus() {
	register(s, op{id: "status", method: http.MethodGet, path: "/v1/status", needs: needsRead, summary: "The director at a glance"}, s.status)
	register(s, op{id: "lookup", method: http.MethodGet, path: "/v1/lookup", needs: needsRead,
		summary: "What happens to a packet: which real server, by which pin, why, and what if it dies"}, s.lookup)
	register(s, op{id: "healthz", method: http.MethodGet, path: "/healthz", needs: needsNothing, summary: "The process is alive"}, s.healthz)
	register(s, op{id: "readyz", method: http.MethodGet, path: "/readyz", needs: needsNothing, summary: "The director is ready; 503 says why not"}, s.readyz)
	register(s, op{id: "metrics", method: http.MethodGet, path: "/metrics", needs: needsRead, answerType: "text/plain", summary: "For Prometheus"}, s.serveMetrics)
}

type statusOutput struct{ Body Status }

func (s *Server) status(ctx context.Context, _ *struct{}) (*statusOutput, error) {
	st, err := s.d.View().Status(ctx)
	if err != nil {
		return nil, asProblem(err)
	}
	if s.o.Drills != nil {
		st.Faults = s.o.Drills.InPlace()
	}
	st.fill()
	return &statusOutput{st}, nil
}

// fill makes empty what would be null.
func (st *Status) fill() {
	fillList(&st.Alarms)
	fillList(&st.Faults)
	fillList(&st.Plane.Detail)
	fillMap(&st.Plane.Dropped)
	fillMap(&st.Plane.Passed)
	fillMap(&st.Plane.Tables)
	fillList(&st.RealServers)
	for i := range st.RealServers {
		st.RealServers[i].fill()
	}
	fillList(&st.Services)
	for i := range st.Services {
		fillMap(&st.Services[i].Dropped)
	}
}

func (r *RealServerStatus) fill() {
	fillList(&r.Addresses)
	fillList(&r.Services)
	if r.Agent != nil {
		fillList(&r.Agent.Load)
	}
}

func fillList[T any](l *[]T) {
	if *l == nil {
		*l = []T{}
	}
}

func fillMap[T any](m *map[string]T) {
	if *m == nil {
		*m = map[string]T{}
	}
}

type lookupInput struct{ Question }

type lookupOutput struct{ Body Explanation }

func (s *Server) lookup(ctx context.Context, in *lookupInput) (*lookupOutput, error) {
	if p := in.check(); p != nil {
		return nil, p
	}
	e, err := s.d.View().Explain(ctx, in.Question)
	if err != nil {
		return nil, asProblem(err)
	}
	e.fill()
	return &lookupOutput{e}, nil
}

// check holds a question to its form.
func (in *lookupInput) check() *Problem {
	var f faults
	for _, x := range []struct{ field, value string }{{"src", in.Src}, {"dst", in.Dst}} {
		if x.value == "" && x.field == "src" {
			continue // the subnet side does not look at it
		}
		if _, err := netip.ParseAddr(x.value); err != nil {
			f.add(x.field, x.value, "is not an address", "like 203.0.113.5 or 2001:db8::5")
		}
	}
	in.Tenant = tenantName(in.Tenant)
	return f.problem("the question")
}

// fill makes empty what would be null.
func (e *Explanation) fill() {
	fillList(&e.Words)
	fillList(&e.NextHops)
	fillList(&e.Established)
}

// Health answers the probes of whoever runs the process.
type Health struct {
	OK  bool     `json:"ok"`
	Why []string `json:"why,omitempty"`
}

type healthOutput struct {
	Status int
	Body   Health
}

func (s *Server) healthz(context.Context, *struct{}) (*healthOutput, error) {
	return &healthOutput{http.StatusOK, Health{OK: true}}, nil
}

func (s *Server) readyz(ctx context.Context, _ *struct{}) (*healthOutput, error) {
	st, err := s.d.View().Status(ctx)
	if err != nil {
		return nil, asProblem(err)
	}
	if !st.Ready {
		p := problem(http.StatusServiceUnavailable, kindUnavailable, "not ready: "+strings.Join(st.NotReady, "; "))
		p.RetryAfter = 1
		return nil, p
	}
	return &healthOutput{http.StatusOK, Health{OK: true}}, nil
}

func (s *Server) serveMetrics(context.Context, *struct{}) (*huma.StreamResponse, error) {
	return &huma.StreamResponse{Body: func(ctx huma.Context) {
		r, w := unwrap(ctx)
		s.metrics.ServeHTTP(w, r)
	}}, nil
}
