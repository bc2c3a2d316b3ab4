package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"tunneldirector/affinity"
)

func (s *Server) registerOperations() {
	register(s, op{id: "repin", method: http.MethodPost, path: "/v1/groups/{id}/repin", needs: needsOperator, body: RepinRequest{},
		summary: "Move a group at once, whether it is up or not. Its id is @NAME, or the id of a tunnel that is alone"}, s.repin)
	register(s, op{id: "rebalance", method: http.MethodPost, path: "/v1/rebalance", needs: needsOperator, body: RebalanceRequest{},
		answer: RebalanceLine{}, answerType: "application/x-ndjson",
		summary: "Even out the load by moving groups that are not up, at a rate; it ends when the client hangs up"}, s.rebalance)
	register(s, op{id: "freeze", method: http.MethodPut, path: "/v1/freeze", needs: needsOperator, summary: "Stop automatic moves"}, s.freeze(true))
	register(s, op{id: "unfreeze", method: http.MethodDelete, path: "/v1/freeze", needs: needsOperator, summary: "Allow automatic moves again"}, s.freeze(false))
}

// A RepinRequest says where a group is to go.
type RepinRequest struct {
	To   string `json:"to,omitempty" doc:"real server; empty: whichever is best"`
	Idle bool   `json:"idle,omitempty" doc:"refuse if the group is up"`
}

// A RepinAnswer says where it is.
type RepinAnswer struct {
	Group     string     `json:"group"`
	Changed   bool       `json:"changed"`
	Placement *Placement `json:"placement"`
	Revision  string     `json:"revision"`
}

type groupPath struct {
	ID string `path:"id" maxLength:"129"`
}

type repinOutput struct{ Body RepinAnswer }

func (s *Server) repin(ctx context.Context, in *groupPath) (*repinOutput, error) {
	var w RepinRequest
	if err := readObject(ctx, &w); err != nil {
		return nil, err
	}
	res, err := s.do(ctx, affinity.Repin{
		By: callerOf(ctx).actor(), Group: affinity.GroupID(in.ID), To: w.To, Why: affinity.WhyRepinned, Idle: w.Idle,
	})
	if err != nil {
		return nil, err
	}
	t := s.d.Table()
	return &repinOutput{RepinAnswer{
		Group: in.ID, Changed: res.Changed, Placement: placement(t, res.Pin, true), Revision: revision(t, res.Revision),
	}}, nil
}

// Frozen says whether automatic moves are stopped.
type Frozen struct {
	Frozen bool `json:"frozen"`
}

type freezeOutput struct{ Body Frozen }

func (s *Server) freeze(on bool) func(context.Context, *struct{}) (*freezeOutput, error) {
	return func(ctx context.Context, _ *struct{}) (*freezeOutput, error) {
		if _, err := s.do(ctx, affinity.SetFreeze{By: callerOf(ctx).actor(), On: on}); err != nil {
			return nil, err
		}
		return &freezeOutput{Frozen{on}}, nil
	}
}

func unsupported(what string) *Problem {
	return problem(http.StatusNotImplemented, kindUnsupported, what+" is not supported by this director")
}

// A RebalanceRequest says how much may move.
type RebalanceRequest struct {
	Service string  `json:"service,omitempty" doc:"empty: all"`
	Rate    float64 `json:"rate_per_second,omitempty" doc:"groups; default 100"`
	Limit   int     `json:"limit,omitempty" doc:"groups; 0: no limit"`
	DryRun  bool    `json:"dry_run,omitempty"`
}

// A RebalanceLine is one move, or the end.
type RebalanceLine struct {
	Group   string            `json:"group,omitempty"`
	From    string            `json:"from,omitempty"`
	To      string            `json:"to,omitempty"`
	Error   *Problem          `json:"error,omitempty" doc:"it stays where it is"`
	Summary *RebalanceSummary `json:"summary,omitempty"`
}

// A RebalanceSummary is the end.
type RebalanceSummary struct {
	Planned  int     `json:"planned"`
	Moved    int     `json:"moved"`
	Refused  int     `json:"refused" doc:"came up in the meantime, for example"`
	DryRun   bool    `json:"dry_run"`
	Seconds  float64 `json:"seconds"`
	Complete bool    `json:"complete"`
	Why      string  `json:"why,omitempty"`
}

func (s *Server) rebalance(ctx context.Context, _ *struct{}) (*huma.StreamResponse, error) {
	var w RebalanceRequest
	if err := readObject(ctx, &w); err != nil {
		return nil, err
	}
	if w.Rate == 0 {
		w.Rate = 100
	}
	if w.Rate < 0.01 || w.Rate > 100_000 {
		return nil, invalid("rate_per_second", "", "is out of range", "0.01 to 100000")
	}
	if w.Limit < 0 {
		return nil, invalid("limit", "", "is negative", "a number of groups, or 0 for no limit")
	}
	planner, ok := s.d.(Rebalancer)
	if !ok {
		return nil, unsupported("rebalancing")
	}
	if _, ok := s.d.Table().Service(w.Service); w.Service != "" && !ok {
		return nil, notFound("service", w.Service)
	}
	ops, err := planner.RebalancePlan(ctx, w.Service)
	if err != nil {
		return nil, asProblem(err)
	}
	if w.Limit > 0 && len(ops) > w.Limit {
		ops = ops[:w.Limit]
	}
	return &huma.StreamResponse{Body: func(huma.Context) {
		r, rw := requestOf(ctx)
		m := mover{s: s, out: newAnswers(rw, r), by: callerOf(ctx).actor(), dryRun: w.DryRun, rate: w.Rate}
		m.run(ctx, ops)
	}}, nil
}

// A mover makes moves at a rate and tells each.
type mover struct {
	s      *Server
	out    *answers
	by     affinity.Actor
	dryRun bool
	rate   float64
	sum    RebalanceSummary
}

func (m *mover) run(ctx context.Context, ops []affinity.Op) {
	start := time.Now()
	m.sum = RebalanceSummary{Planned: len(ops), DryRun: m.dryRun}
	err := m.move(ctx, ops)
	m.sum.Complete, m.sum.Seconds = err == nil, time.Since(start).Seconds()
	if err != nil {
		m.sum.Why = err.Error()
	}
	err = errors.Join(m.out.add(RebalanceLine{Summary: &m.sum}), m.out.close())
	m.s.o.Log.Info("rebalance", "token", m.by.Name, "planned", m.sum.Planned, "moved", m.sum.Moved, "refused", m.sum.Refused,
		"dry_run", m.dryRun, "why", m.sum.Why, "error", err)
}

func (m *mover) move(ctx context.Context, ops []affinity.Op) error {
	step := max(1, int(m.rate/10))
	pause := time.NewTicker(time.Duration(float64(step) / m.rate * float64(time.Second)))
	defer pause.Stop()
	for first := true; len(ops) > 0; first = false {
		if !first && !m.dryRun {
			select {
			case <-pause.C:
			case <-ctx.Done():
				return ctx.Err()
			case <-stopping(ctx):
				return errStopping
			}
		}
		n := min(step, len(ops))
		if err := m.some(ctx, ops[:n]); err != nil {
			return err
		}
		ops = ops[n:]
	}
	return nil
}

func (m *mover) some(ctx context.Context, ops []affinity.Op) error {
	before := m.s.d.Table()
	for i, op := range ops {
		if r, ok := op.(affinity.Repin); ok {
			r.By = m.by
			ops[i] = r
		}
	}
	results := make([]affinity.Result, len(ops))
	if !m.dryRun {
		var err error
		if results, err = m.s.d.Do(ctx, ops); err != nil {
			return err
		}
	}
	after := m.s.d.Table()
	for i, op := range ops {
		r, _ := op.(affinity.Repin)
		line := RebalanceLine{Group: string(r.Group), To: r.To}
		if pin, ok := before.Pin(r.Group); ok {
			line.From = realServerName(before, pin.Primary)
		}
		switch err := results[i].Err; {
		case err != nil:
			line.Error = asProblem(err)
			m.sum.Refused++
		case !m.dryRun:
			line.To = realServerName(after, results[i].Pin.Primary)
			m.sum.Moved++
		}
		if err := m.out.add(line); err != nil {
			return err
		}
	}
	return m.out.flush()
}
