package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-json-experiment/json"

	"tunneldirector/affinity"
)

// A ListedTunnel is a tunnel in a stream, as it is described: nothing else names it.
type ListedTunnel Tunnel

// TransformSchema makes the id required.
func (ListedTunnel) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	s.Required = append(s.Required, "id")
	return s
}

// A BatchDelete is the other kind of a batch's line, as it is described.
type BatchDelete struct {
	Delete     string `json:"delete" doc:"id of a tunnel to delete; one that does not exist is no error"`
	Generation uint64 `json:"generation,omitempty" doc:"of the push that this undoes; a lower one than known is refused"`
}

// A BatchItem is one line of a batch: a tunnel, or {"delete":"id","generation":3}.
type BatchItem struct {
	Tunnel
	Delete string `json:"delete,omitempty" doc:"id of a tunnel to delete; only generation may stand beside it"`
}

type batchInput struct {
	Progress bool `query:"progress" doc:"a progress line each second"`
}

func (s *Server) registerStreams() {
	register(s, op{id: "batch-tunnels", method: http.MethodPost, path: "/v1/tunnels/batch", needs: needsPush,
		lines: []any{ListedTunnel{}, BatchDelete{}}, answer: StreamLine{}, answerType: "application/x-ndjson",
		summary: "Any number of pushes and deletions, one a line; answered by a line for each refused one and a summary. The status is sent before the end is known: look at summary.complete"},
		s.batchTunnels)
	register(s, op{id: "put-tunnels", method: http.MethodPut, path: "/v1/tunnels", needs: needsPush,
		lines: []any{SetHeader{}, ListedTunnel{}}, answer: StreamLine{}, answerType: "application/x-ndjson",
		summary: `The complete wanted set of its owner. The first line is {"count":N}, then N tunnels, one a line. What the owner has and the set does not name is deleted, within limits`},
		s.putTunnels)
	register(s, op{id: "watch", method: http.MethodGet, path: "/v1/watch", needs: needsRead,
		answer: Event{}, answerType: "text/event-stream", summary: "Server-sent events: placements, moves, real servers' states"}, s.watch)
}

func (s *Server) batchTunnels(ctx context.Context, in *batchInput) (*huma.StreamResponse, error) {
	return &huma.StreamResponse{Body: func(huma.Context) {
		r, w := requestOf(ctx)
		rc := http.NewResponseController(w)
		_ = rc.EnableFullDuplex() // HTTP/2 always is
		body := &streamBody{r: r.Body, setDeadline: rc.SetReadDeadline, stopping: stopping(ctx)}
		out := newAnswers(w, r)
		b := &batch{s: s, by: callerOf(ctx).actor(), out: out, progress: in.Progress, start: time.Now()}
		b.last = b.start
		err := b.run(ctx, body)
		if errors.Is(err, errNotNDJSON) || errors.Is(err, errDiskFull) {
			drain(r.Body, rc) // so that a client which sends first and reads then gets to the answer
		}
		if err := out.close(); err != nil {
			s.o.Log.Warn("batch not answered to its end", "token", b.by.Name, "error", err)
		}
		s.o.Log.Info("batch", "token", b.by.Name, "lines", b.sum.Lines, "created", b.sum.Created, "changed", b.sum.Changed,
			"deleted", b.sum.Deleted, "refused", b.sum.Refused, "seconds", b.sum.Seconds, "why", b.sum.Why)
	}}, nil
}

// drain takes in what a client is still sending, for a moment.
func drain(r io.Reader, rc *http.ResponseController) {
	_ = rc.SetReadDeadline(time.Now().Add(2 * time.Second))
	_, _ = io.CopyN(io.Discard, r, 256<<20)
}

var errDiskFull = errors.New("the store takes no writes")

// A batch applies a stream of changes. One goroutine owns it.
type batch struct {
	s        *Server
	by       affinity.Actor
	out      *answers
	progress bool
	start    time.Time
	last     time.Time // of the last progress line
	sum      Summary
	revision uint64
	sieve    sieve
}

// run applies the body and adds the summary. The error is what ended it early.
func (b *batch) run(ctx context.Context, body *streamBody) error {
	work := context.WithoutCancel(ctx) // what was received is applied even if the client is gone
	p := &pipeline{body: body, parse: parseItem(b.by), stop: body.stop, consume: func(c *chunk) error { return b.apply(work, c) }}
	err := p.run(ctx)
	b.sum.Complete = err == nil
	if err != nil {
		b.sum.Why = endWords(err)
	}
	if _, several := b.s.d.View().(Replicator); several && b.revision > 0 {
		b.sum.Programmed = b.s.programmed(work, b.revision, 0)
	}
	b.sum.Seconds = time.Since(b.start).Seconds()
	t := b.s.d.Table()
	b.sum.Revision = revision(t, max(b.revision, 0))
	if b.revision == 0 {
		b.sum.Revision = b.s.revisionNow()
	}
	if outErr := b.out.add(StreamLine{Summary: &b.sum}); outErr != nil && err == nil {
		err = outErr
	}
	return err
}

func endWords(err error) string {
	var nerr interface{ Timeout() bool }
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "the body was cut off; what is not reported as refused and stands before the cut is durable"
	case errors.As(err, &nerr) && nerr.Timeout():
		return fmt.Sprintf("nothing came for %s", idleTimeout)
	}
	return err.Error()
}

// parseItem parses lines of a batch.
func parseItem(by affinity.Actor) parser {
	return func(data []byte) (string, affinity.Op, *Problem) {
		var w BatchItem
		if p := decode(data, &w); p != nil {
			return idIn(data), nil, p
		}
		if w.Delete != "" {
			return w.Delete, affinity.DeleteTunnel{By: by, ID: w.Delete, Generation: w.Generation}, w.deleteProblem()
		}
		rec, f := w.record()
		if p := f.problem("tunnel " + clip(w.ID)); p != nil {
			return w.ID, nil, p
		}
		return w.ID, affinity.PutTunnel{By: by, Tunnel: rec}, nil
	}
}

func (w *BatchItem) deleteProblem() *Problem {
	if w.ID == "" && w.Service == "" && w.Endpoints == nil && w.Subnets == nil && w.Group == "" && w.Tenant == "" && w.Labels == nil {
		return nil
	}
	return invalid("delete", w.Delete, "stands beside a tunnel", "one line to delete, another one to push")
}

// idIn finds the id in a line that is refused for something else.
func idIn(data []byte) string {
	var w struct {
		ID     string `json:"id"`
		Delete string `json:"delete"`
	}
	if err := json.Unmarshal(data, &w); err != nil && w.ID == "" && w.Delete == "" {
		return ""
	}
	if w.ID == "" {
		return clip(w.Delete)
	}
	return clip(w.ID)
}

// apply asks for a chunk's changes and answers them.
func (b *batch) apply(ctx context.Context, c *chunk) error {
	ops := make([]affinity.Op, 0, len(c.items))
	for _, it := range c.items {
		if it.problem == nil {
			ops = append(ops, it.op)
		}
		b.sieve.take(it)
	}
	var results []affinity.Result
	if len(ops) > 0 {
		var err error
		if results, err = b.s.d.Do(ctx, ops); err != nil {
			b.sum.Lines += len(c.items)
			b.sum.Unanswered += len(ops)
			b.refuseParsed(c)
			return err
		}
	}
	n, unwritable := 0, 0
	for _, it := range c.items {
		p := it.problem
		var res affinity.Result
		if p == nil {
			res = results[n]
			n++
		}
		full, err := b.answer(it, p, res)
		if err != nil {
			return err
		}
		if full {
			unwritable++
		}
	}
	if err := b.tell(); err != nil {
		return err
	}
	if unwritable > 0 && unwritable == len(ops) {
		return errDiskFull
	}
	return b.sieve.garbage
}

// refuseParsed answers what was wrong in itself in a chunk whose changes have no answer.
func (b *batch) refuseParsed(c *chunk) {
	for _, it := range c.items {
		if it.problem != nil {
			_ = b.refuse(it, it.problem) // the batch ends anyway
		}
	}
}

func (b *batch) refuse(it item, p *Problem) error {
	b.sum.Refused++
	if !b.sieve.tells() {
		b.sum.Untold++
		return nil
	}
	return b.out.add(StreamLine{Line: it.line, ID: it.id, Error: p})
}

// answer counts one item, and says what the client must know of it; unwritable: for want of room on the disk.
func (b *batch) answer(it item, p *Problem, res affinity.Result) (unwritable bool, err error) {
	b.sum.Lines++
	if p == nil && res.Err != nil {
		var r *affinity.Refusal
		unwritable = errors.As(res.Err, &r) && r.Reason == affinity.Unwritable
		p = asProblem(res.Err)
	}
	b.revision = max(b.revision, res.Revision)
	if p != nil {
		return unwritable, b.refuse(it, p)
	}
	_, deletes := it.op.(affinity.DeleteTunnel)
	b.sum.count(deletes, res)
	if len(res.Warnings) > 0 {
		b.sum.Warned++
		return false, b.out.add(StreamLine{Line: it.line, ID: it.id, Warnings: res.Warnings})
	}
	return false, nil
}

func (s *Summary) count(deletes bool, res affinity.Result) {
	switch {
	case deletes && res.Changed:
		s.Deleted++
	case res.Created:
		s.Created++
	case res.Changed:
		s.Changed++
	default:
		s.Unchanged++
	}
	switch {
	case deletes || res.Pin.Primary != 0:
	case res.Pin.Header.Format == 0:
		s.Pending++
	default:
		s.Unplaced++
	}
}

// tell sends what waits, with a progress line if one is due.
func (b *batch) tell() error {
	if now := time.Now(); b.progress && now.Sub(b.last) >= time.Second {
		b.last = now
		line := StreamLine{Progress: &Progress{b.sum.Lines, b.sum.Refused, now.Sub(b.start).Seconds()}}
		if err := b.out.add(line); err != nil {
			return err
		}
	}
	return b.out.flush()
}
