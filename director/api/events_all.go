package api

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// A DirectorEvent is an event, and the director that recorded it.
type DirectorEvent struct {
	Director string   `json:"director"`
	Event    Recorded `json:"event"`
}

// AllEvents are those of all directors, in the order of time.
type AllEvents struct {
	Events []DirectorEvent `json:"events" doc:"without tunnel-put and tunnel-deleted; the newest 1,000 of each director"`
	Silent []Silent        `json:"silent" doc:"other directors that did not answer"`
}

// MaxAllEvents is how many events of each director AllEvents has.
const MaxAllEvents = 1000

type allEventsInput struct {
	Since string `query:"since" required:"true" doc:"a time, like 2026-01-02T03:04:05Z"`
}

type allEventsOutput struct{ Body AllEvents }

func (s *Server) allEvents(ctx context.Context, in *allEventsInput) (*allEventsOutput, error) {
	since, err := time.Parse(time.RFC3339, in.Since)
	if err != nil {
		return nil, invalid("since", in.Since, "is not a time", "like 2026-01-02T03:04:05Z")
	}
	all, err := s.o.Examiner.AllEvents(ctx, since)
	if err != nil {
		return nil, asProblem(err)
	}
	fillList(&all.Events)
	fillList(&all.Silent)
	return &allEventsOutput{all}, nil
}

// AllEvents reads what all live directors recorded since a time.
func (c *Client) AllEvents(ctx context.Context, since time.Time) (AllEvents, error) {
	return call[AllEvents](ctx, c, http.MethodGet, "/v1/events/all", url.Values{"since": {since.UTC().Format(time.RFC3339Nano)}}, nil)
}
