package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

func (s *Server) registerEvents() {
	register(s, op{id: "list-events", method: http.MethodGet, path: "/v1/events", needs: needsRead, answer: EventLine{}, answerType: "application/x-ndjson",
		summary: "What happened, from this director's disk: the newest that match, the oldest of them first; then, if asked for, what happens from now on"}, s.listEvents)
}

type eventsInput struct {
	Since  string   `query:"since" doc:"a time, like 2026-01-02T03:04:05Z"`
	Until  string   `query:"until" doc:"a time, like 2026-01-02T03:04:05Z"`
	Kind   []string `query:"kind,explode" enum:"tunnel-put,tunnel-deleted,placed,moved,unplaced,contested,real-server,service,freeze,refused,provisional,held,assigner,director,peer,address,clock,plane,fault,blackbox,alarm,journal" doc:"may be repeated"`
	Object string   `query:"object" maxLength:"300" doc:"a tunnel, group, real server, service, director or address: what happened to it, and what was moved from or to it"`
	By     string   `query:"by" maxLength:"300" doc:"who asked"`
	Limit  int      `query:"limit" default:"1000" minimum:"1" maximum:"10000"`
	Before string   `query:"before" doc:"the position of an event: those before it, the newest of them"`
	After  string   `query:"after" doc:"the position of an event, or end of an answer: those after it, the oldest of them"`
	Follow bool     `query:"follow" doc:"go on with what happens until the client hangs up"`
}

// An EventLine is an event, or where the answer stands: after the events that were asked for, and then as a sign of life.
type EventLine struct {
	Event *Recorded  `json:"event,omitempty"`
	Page  *EventPage `json:"page,omitempty"`
}

// An EventPage ends what was asked for. Its absence means that the answer was cut off.
type EventPage struct {
	Director   string `json:"director" doc:"whose events these are; each director keeps its own"`
	End        string `json:"end" doc:"to go on after it"`
	More       bool   `json:"more" doc:"there are more: newer ones if after was given, else older ones"`
	Unreadable int    `json:"unreadable,omitempty" doc:"lines that were skipped: a crash tears one"`
	Why        string `json:"why,omitempty" doc:"why the director ends a stream that was to be followed"`
}

func (in *eventsInput) query() (EventQuery, *Problem) {
	var f faults
	q := EventQuery{Kinds: in.Kind, Object: in.Object, By: in.By, Limit: in.Limit, Before: in.Before, After: in.After}
	for _, x := range []struct {
		field, value string
		into         *time.Time
	}{{"since", in.Since, &q.Since}, {"until", in.Until, &q.Until}} {
		if x.value == "" {
			continue
		}
		var err error
		if *x.into, err = time.Parse(time.RFC3339, x.value); err != nil {
			f.add(x.field, x.value, "is not a time", "like 2026-01-02T03:04:05Z")
		}
	}
	if in.Before != "" && (in.After != "" || in.Follow) {
		f.add("before", in.Before, "is not for those after it", "say before, or after and follow")
	}
	if in.Follow && in.Until != "" {
		f.add("until", in.Until, "ends what is to be followed", "say one of them")
	}
	return q, f.problem("the query")
}

func (s *Server) listEvents(ctx context.Context, in *eventsInput) (*huma.StreamResponse, error) {
	q, p := in.query()
	if p != nil {
		return nil, p
	}
	if s.o.Journal == nil {
		return nil, problem(http.StatusNotImplemented, kindUnsupported, "this director keeps no events on disk")
	}
	first, err := s.readEvents(ctx, q)
	if err != nil {
		return nil, err
	}
	return &huma.StreamResponse{Body: func(huma.Context) {
		r, w := requestOf(ctx)
		t := eventTeller{s: s, out: newAnswers(w, r), q: q}
		t.q.Before = ""
		t.last = t.tell(first)
		if in.Follow {
			t.last = errors.Join(t.last, t.follow(ctx))
		}
		if err := errors.Join(t.last, t.out.close()); err != nil && ctx.Err() == nil {
			s.o.Log.Info("events cut off", "token", callerOf(ctx).name, "error", err)
		}
	}}, nil
}

// readEvents reads, and says what is wrong with the question.
func (s *Server) readEvents(ctx context.Context, q EventQuery) (EventList, error) {
	list, err := s.o.Journal.Read(ctx, q)
	switch {
	case errors.Is(err, ErrGone):
		return list, problem(http.StatusGone, kindGone, fmt.Sprintf("the events after %s are not kept any more", clip(q.After)),
			FieldError{Field: "after", Value: clip(q.After), Problem: "is not known here", Remedy: "leave it out: the newest are told"})
	case errors.Is(err, ErrBadPosition):
		field := "after"
		if q.After == "" {
			field = "before"
		}
		return list, invalid(field, q.After+q.Before, "is not a position", "FILE:OFFSET, as events of this director have it")
	case err != nil:
		return list, asProblem(err)
	}
	return list, nil
}

// An eventTeller tells events to one client.
type eventTeller struct {
	s    *Server
	out  *answers
	q    EventQuery
	last error
}

// tell tells what was read; the next reading goes on after it.
func (t *eventTeller) tell(list EventList) error {
	t.q.After = list.End
	for i := range list.Events {
		if err := t.out.add(EventLine{Event: &list.Events[i]}); err != nil {
			return err
		}
	}
	return errors.Join(t.out.add(EventLine{Page: &EventPage{Director: t.s.o.Name, End: list.End, More: list.More, Unreadable: list.Unreadable}}), t.out.flush())
}

// follow tells what comes. A sign of life is sent where nothing does.
func (t *eventTeller) follow(ctx context.Context) error {
	beat := time.NewTicker(t.s.o.Heartbeat)
	defer beat.Stop()
	for t.last == nil {
		changed := t.s.o.Journal.Changed()
		list, err := t.s.readEvents(ctx, t.q)
		if err != nil {
			return errors.Join(err, t.out.add(EventLine{Page: &EventPage{Director: t.s.o.Name, End: t.q.After, Why: err.Error()}}))
		}
		if len(list.Events) > 0 {
			t.last = t.tell(list)
			continue
		}
		t.q.After = list.End
		select {
		case <-changed:
		case <-beat.C:
			t.last = t.tell(list)
		case <-stopping(ctx):
			return t.out.add(EventLine{Page: &EventPage{Director: t.s.o.Name, End: t.q.After, Why: errStopping.Error()}})
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}
