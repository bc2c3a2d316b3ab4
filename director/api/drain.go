package api

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"tunneldirector/affinity"
)

// A DrainRequest says how a real server is emptied: at a rate, and at a deadline all that is left. An empty one moves nothing.
type DrainRequest struct {
	Rate     DrainRate `json:"rate,omitempty" doc:"tunnels a second; 0: none before the deadline"`
	Deadline string    `json:"deadline,omitempty" doc:"when all that is left is moved: a time of RFC 3339, or a duration from now like 2h; at most 30 days"`
}

// A DrainRate is tunnels a second: "20/s", "0.5/s", or a number.
type DrainRate string

const (
	maxDrainRate = 1000
	maxDrainTime = 30 * 24 * time.Hour

	rateRemedy     = "tunnels a second, like 20/s or 0.5/s"
	deadlineRemedy = "like 2h, 90m or 2027-01-31T18:00:00Z"
)

// UnmarshalJSON takes in whatever comes: plan says what is wrong with it.
func (r *DrainRate) UnmarshalJSON(data []byte) error {
	var s string
	if json.Unmarshal(data, &s) != nil {
		s = string(data)
	}
	*r = DrainRate(s)
	return nil
}

// Schema describes a DrainRate.
func (DrainRate) Schema(huma.Registry) *huma.Schema {
	least, most := 0.0, float64(maxDrainRate)
	return &huma.Schema{Description: rateRemedy, OneOf: []*huma.Schema{
		{Type: huma.TypeString, Examples: []any{"20/s"}}, {Type: huma.TypeNumber, Minimum: &least, Maximum: &most}}}
}

// plan is the drain that is asked for; nil: none.
func (w *DrainRequest) plan(now time.Time) (*affinity.Drain, faults) {
	if *w == (DrainRequest{}) {
		return nil, nil
	}
	var f faults
	out := &affinity.Drain{Milli: f.drainRate(string(w.Rate)), By: f.drainDeadline(w.Deadline, now)}
	if len(f) == 0 && out.Milli == 0 && out.By == 0 {
		f.add("rate", string(w.Rate), "moves nothing, ever", rateRemedy+"; or give a deadline too")
	}
	return out, f
}

// drainRate reads tunnels a second as tunnels in 1000 s.
func (f *faults) drainRate(s string) uint32 {
	if s == "" {
		return 0
	}
	figure, unit, hasUnit := strings.Cut(s, "/")
	rate, err := strconv.ParseFloat(strings.TrimSpace(figure), 64)
	milli := math.Round(rate * 1000)
	switch {
	case hasUnit && strings.TrimSpace(unit) != "s":
		f.add("rate", s, "is of an unknown unit", rateRemedy)
	case err != nil || math.IsNaN(rate):
		f.add("rate", s, "is not a rate", rateRemedy)
	case rate < 0:
		f.add("rate", s, "is negative", rateRemedy)
	case rate > maxDrainRate:
		f.add("rate", s, fmt.Sprintf("is over %d/s", maxDrainRate), rateRemedy)
	case rate > 0 && milli == 0:
		f.add("rate", s, "is less than one tunnel in 1000 s", "0.001/s, or 0 and a deadline")
	default:
		return uint32(milli)
	}
	return 0
}

func (f *faults) drainDeadline(s string, now time.Time) affinity.Stamp {
	if s == "" {
		return 0
	}
	by, err := time.Parse(time.RFC3339, s)
	if d, derr := time.ParseDuration(s); err != nil && derr == nil {
		by, err = now.Add(d), nil
	}
	switch {
	case err != nil:
		f.add("deadline", s, "is neither a time nor a duration", deadlineRemedy)
	case !by.After(now):
		f.add("deadline", s, "is over already", deadlineRemedy+"; director repin moves at once")
	case by.Sub(now) > maxDrainTime:
		f.add("deadline", s, "is over 30 days away", "at most 720h from now")
	default:
		return affinity.NewStamp(by, 0)
	}
	return 0
}

func (s *Server) drain(ctx context.Context, in *namePath) (*changedOutput, error) {
	var w DrainRequest
	if _, err := readOptional(ctx, &w); err != nil {
		return nil, err
	}
	plan, f := w.plan(time.Now())
	if p := f.problem("the drain of real server " + in.Name); p != nil {
		return nil, p
	}
	return s.change(ctx, affinity.SetAdmin{By: callerOf(ctx).actor(), Name: in.Name, Admin: affinity.Drained, Drain: plan})
}

func (s *Server) undrain(ctx context.Context, in *namePath) (*changedOutput, error) {
	return s.change(ctx, affinity.SetAdmin{By: callerOf(ctx).actor(), Name: in.Name, Admin: affinity.Active})
}
