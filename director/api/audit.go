package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// An Auditor is a View that can compare what its data plane was told with what the kernel holds, key by key.
type Auditor interface {
	// Auditable is false where the data plane cannot be read back.
	Auditable() bool
	// Audit calls f for each difference until ctx ends. It may take minutes.
	Audit(ctx context.Context, f func(Difference)) (AuditCounts, error)
}

// A Pairer is a View that knows what pair addresses stand for.
type Pairer interface {
	// Pairs are those in use; false where the data plane has none.
	Pairs() ([]Pair, bool)
}

// A Pair is what an address means in the kernel's tables that stands for two real servers.
type Pair struct {
	Address4 string `json:"address4"`
	Address6 string `json:"address6"`
	Primary  string `json:"primary"`
	Backup   string `json:"backup,omitempty"`
	Now      string `json:"now,omitempty" doc:"who has its packets; empty: nobody is alive"`
}

// A PairList is all pairs.
type PairList struct {
	Pairs []Pair `json:"pairs"`
}

// A Difference is a key that the kernel treats differently than it should.
type Difference struct {
	Key  string `json:"key" doc:"an endpoint at a VIP, or a subnet"`
	Want string `json:"want" doc:"what the table says"`
	Have string `json:"have" doc:"what the kernel does"`
}

// AuditCounts are of keys.
type AuditCounts struct {
	Equal   uint64 `json:"equal" doc:"as wanted"`
	Missing uint64 `json:"missing" doc:"not in the kernel"`
	Other   uint64 `json:"other" doc:"there, but different"`
	Surplus uint64 `json:"surplus" doc:"there, but not wanted"`
}

// Differences is how many keys are not as wanted.
func (c AuditCounts) Differences() uint64 { return c.Missing + c.Other + c.Surplus }

// An AuditLine is a difference, a sign of life, or the end.
type AuditLine struct {
	Difference *Difference    `json:"difference,omitempty"`
	Progress   *AuditProgress `json:"progress,omitempty"`
	Summary    *AuditSummary  `json:"summary,omitempty"`
}

// AuditProgress tells that an audit goes on.
type AuditProgress struct {
	Differences uint64  `json:"differences" doc:"so far"`
	Seconds     float64 `json:"seconds"`
}

// An AuditSummary is the end.
type AuditSummary struct {
	AuditCounts
	Seconds  float64 `json:"seconds"`
	Complete bool    `json:"complete"`
	Why      string  `json:"why,omitempty" doc:"why it is not"`
}

const auditBeat = 5 * time.Second // between signs of life

func (s *Server) registerPlane() {
	register(s, op{id: "list-pairs", method: http.MethodGet, path: "/v1/plane/pairs", needs: needsRead,
		summary: "What the addresses stand for that the data plane uses in the place of pairs of real servers"}, s.listPairs)
	register(s, op{id: "audit", method: http.MethodPost, path: "/v1/plane/audit", needs: needsOperator, answer: AuditLine{}, answerType: "application/x-ndjson",
		summary: "Compare all that the kernel holds with what it should; it may take minutes, disturbs nothing, and ends when the client hangs up"}, s.audit)
}

type pairsOutput struct{ Body PairList }

func (s *Server) listPairs(context.Context, *struct{}) (*pairsOutput, error) {
	if v, ok := s.d.View().(Pairer); ok {
		if list, has := v.Pairs(); has {
			fillList(&list)
			return &pairsOutput{PairList{list}}, nil
		}
	}
	return nil, s.notOfPlane("no address stands for a pair of real servers")
}

// notOfPlane says what the data plane cannot do.
func (s *Server) notOfPlane(what string) *Problem {
	return problem(http.StatusNotImplemented, kindUnsupported, "in this director's data plane "+what+"; GET /v1/status names it")
}

func (s *Server) audit(ctx context.Context, _ *struct{}) (*huma.StreamResponse, error) {
	v, ok := s.d.View().(Auditor)
	if !ok || !v.Auditable() {
		return nil, s.notOfPlane("the kernel's tables cannot be compared")
	}
	select {
	case s.audits <- struct{}{}:
	default:
		p := problem(http.StatusConflict, kindConflict, "an audit is running; one at a time")
		p.RetryAfter = 30
		return nil, p
	}
	return &huma.StreamResponse{Body: func(huma.Context) {
		defer func() { <-s.audits }()
		r, rw := requestOf(ctx)
		a := audit{out: newAnswers(rw, r), began: time.Now()}
		err := a.run(ctx, v)
		s.o.Log.Info("audit", "token", callerOf(ctx).name, "equal", a.sum.Equal, "missing", a.sum.Missing, "other", a.sum.Other, "surplus", a.sum.Surplus,
			"seconds", a.sum.Seconds, "why", a.sum.Why, "error", err)
	}}, nil
}

// An audit tells differences while they are found.
type audit struct {
	out   *answers
	began time.Time
	told  uint64
	sum   AuditSummary
}

// run ends with the summary; its error is that of telling.
func (a *audit) run(ctx context.Context, v Auditor) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	found := make(chan Difference)
	counts, ended := AuditCounts{}, make(chan error, 1)
	go func() {
		var err error
		counts, err = v.Audit(ctx, func(d Difference) {
			select {
			case found <- d:
			case <-ctx.Done():
			}
		})
		ended <- err
	}()
	err := a.tell(found, ended, stopping(ctx), cancel)
	a.sum.AuditCounts, a.sum.Seconds, a.sum.Complete = counts, time.Since(a.began).Seconds(), err == nil
	if err != nil {
		a.sum.Why = err.Error()
		if cause := context.Cause(ctx); cause != nil {
			a.sum.Why = cause.Error()
		}
	}
	return errors.Join(a.out.add(AuditLine{Summary: &a.sum}), a.out.close())
}

// tell passes on what is found until the audit has ended, which it returns the error of.
func (a *audit) tell(found <-chan Difference, ended <-chan error, stop <-chan struct{}, cancel context.CancelCauseFunc) error {
	beat := time.NewTicker(auditBeat)
	defer beat.Stop()
	for {
		var err error
		select {
		case err := <-ended:
			return err
		case d := <-found:
			a.told++
			err = a.out.add(AuditLine{Difference: &d})
		case <-stop:
			stop, err = nil, errStopping
		case <-beat.C:
			err = errors.Join(a.out.add(AuditLine{Progress: &AuditProgress{a.told, time.Since(a.began).Seconds()}}), a.out.flush())
		}
		if err != nil { // or nobody listens
			cancel(err)
		}
	}
}
