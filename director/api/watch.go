package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

type watchInput struct {
	Since string `query:"since" doc:"a revision, STORE:NUMBER, from any answer; absent: from now on"`
	Last  string `header:"Last-Event-ID" doc:"sent by clients that reconnect; it goes before since"`
}

func (s *Server) watch(ctx context.Context, in *watchInput) (*huma.StreamResponse, error) {
	since := in.Since
	if in.Last != "" {
		since = in.Last
	}
	if since == "" {
		since = s.revisionNow()
	}
	store, seq, err := parseRevision(since)
	if err != nil {
		return nil, err
	}
	if store != s.d.Table().StoreID() {
		return nil, gone(fmt.Sprintf("revision %s is of another store", clip(since)))
	}
	// Whether the revision is known is asked before the status is sent.
	first, err := s.firstEvents(ctx, seq)
	if errors.Is(err, ErrGone) {
		return nil, gone(fmt.Sprintf("the events after revision %s are not kept any more, or are still to come", clip(since)))
	}
	if err != nil {
		return nil, asProblem(err)
	}
	return &huma.StreamResponse{Body: func(huma.Context) {
		_, w := requestOf(ctx)
		st := stream{w: w, rc: http.NewResponseController(w), store: store}
		h := w.Header()
		h.Set("Content-Type", "text/event-stream")
		h.Set("Cache-Control", "no-store")
		h.Set("X-Accel-Buffering", "no")
		if err := s.follow(ctx, &st, first, seq); err != nil && ctx.Err() == nil {
			s.o.Log.Info("watcher cut off", "token", callerOf(ctx).name, "error", err)
		}
	}}, nil
}

// firstEvents asks whether a revision is known, and for what is there already. A revision that the table has but whose
// events are still being told is waited for.
func (s *Server) firstEvents(ctx context.Context, seq uint64) ([]Event, error) {
	for patience := 100; ; patience-- {
		known := seq <= s.d.Table().Revision()
		events, err := s.events(ctx, seq, 50*time.Millisecond)
		if !errors.Is(err, ErrGone) || !known || patience == 0 || s.passed(ctx, seq) {
			return events, err
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// passed tells whether what came after a revision is not kept any more, rather than still to come: the newest has been
// told.
func (s *Server) passed(ctx context.Context, seq uint64) bool {
	newest := s.d.Table().Revision()
	if seq >= newest {
		return false
	}
	_, err := s.events(ctx, newest, time.Millisecond)
	return err == nil
}

// parseRevision reads STORE:NUMBER.
func parseRevision(s string) (store string, seq uint64, err error) {
	i := strings.LastIndexByte(s, ':')
	if i > 0 {
		if seq, err = strconv.ParseUint(s[i+1:], 10, 64); err == nil {
			return s[:i], seq, nil
		}
	}
	return "", 0, invalid("since", s, "is not a revision", "STORE:NUMBER, as answers call it revision and events call it id")
}

func gone(detail string) *Problem {
	return problem(http.StatusGone, kindGone, detail, FieldError{
		Field: "since", Problem: "is not known here",
		Remedy: "read GET /v1/tunnels page by page, then watch since the revision of the first page",
	})
}

// events waits for the next events at most so long; none is no error.
func (s *Server) events(ctx context.Context, since uint64, wait time.Duration) ([]Event, error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	events, err := s.d.View().Events(ctx, since)
	if err != nil && ctx.Err() != nil && !errors.Is(err, ErrGone) {
		return nil, nil
	}
	return events, err
}

// follow sends events until the client is gone, falls behind, or the server stops.
func (s *Server) follow(ctx context.Context, st *stream, events []Event, seq uint64) error {
	defer func() { _ = st.rc.SetWriteDeadline(time.Time{}) }() // the connection goes on to the next request
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := stopping(ctx)
	go func() {
		select {
		case <-stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	st.text("retry: 2000\n\n")
	for {
		if len(events) > 0 {
			st.events(events)
			seq = events[len(events)-1].Seq
		}
		if err := st.flush(); err != nil {
			return err
		}
		var err error
		events, err = s.events(ctx, seq, s.o.Heartbeat)
		switch {
		case errors.Is(err, ErrGone):
			st.last("gone", gone("the reader fell too far behind"))
			return errors.Join(err, st.flush())
		case err != nil:
			st.last("end", asProblem(err))
			return errors.Join(err, st.flush())
		case ctx.Err() != nil:
			st.last("end", problem(http.StatusServiceUnavailable, kindUnavailable, errStopping.Error()))
			return st.flush()
		case len(events) == 0:
			st.text(": still here\n\n")
		}
	}
}

// A stream writes server-sent events.
type stream struct {
	w     http.ResponseWriter
	rc    *http.ResponseController
	store string
	buf   []byte
}

func (st *stream) text(s string) { st.buf = append(st.buf, s...) }

// events queues a burst. Of several with one number only the last carries it as id, so that nobody resumes in between.
func (st *stream) events(events []Event) {
	for i, e := range events {
		if i+1 == len(events) || events[i+1].Seq != e.Seq {
			st.text(fmt.Sprintf("id: %s:%d\n", st.store, e.Seq))
		}
		st.event(e.Kind, e)
	}
}

func (st *stream) last(kind string, p *Problem) { st.event(kind, p) }

func (st *stream) event(kind string, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("encode an event: %v", err)) // our own types encode
	}
	st.text("event: " + kind + "\ndata: ")
	st.buf = append(st.buf, data...)
	st.text("\n\n")
}

func (st *stream) flush() error {
	_ = st.rc.SetWriteDeadline(time.Now().Add(writeTimeout))
	_, err := st.w.Write(st.buf)
	st.buf = st.buf[:0]
	if err != nil {
		return err
	}
	if err := st.rc.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}
