package api

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"tunneldirector/affinity"
)

// A Problem is an RFC 9457 problem document, on the wire and as the client's error.
type Problem struct {
	Type   string       `json:"type" doc:"a URN that names the kind of problem"`
	Title  string       `json:"title"`
	Status int          `json:"status" doc:"HTTP status"`
	Detail string       `json:"detail,omitempty" doc:"what happened, in a sentence"`
	Errors []FieldError `json:"errors,omitempty" doc:"each fault"`
	// RetryAfter is sent as a header: seconds after which it may work.
	RetryAfter int `json:"-"`
}

// A FieldError is one fault of a request.
type FieldError struct {
	Field   string `json:"field,omitempty" doc:"path of the field: subnets[0]"`
	Value   string `json:"value,omitempty" doc:"as it was given, cut to 200 bytes"`
	Problem string `json:"problem"`
	Remedy  string `json:"remedy,omitempty"`
}

func (e FieldError) String() string {
	return affinity.Fault{Field: e.Field, Value: e.Value, Problem: e.Problem, Remedy: e.Remedy}.Error()
}

// Error is the problem in one line, each fault included.
func (p *Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.Title)
	if p.Detail != "" {
		b.WriteString(": " + p.Detail)
	}
	for i, e := range p.Errors {
		if i == 0 {
			b.WriteString(": ")
		} else {
			b.WriteString(" | ")
		}
		b.WriteString(e.String())
	}
	return b.String()
}

// GetStatus tells huma the HTTP status.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType tells huma the media type of a problem.
func (p *Problem) ContentType(string) string { return "application/problem+json" }

// GetHeaders tells huma the extra headers.
func (p *Problem) GetHeaders() http.Header {
	h := http.Header{}
	if p.RetryAfter > 0 {
		h.Set("Retry-After", fmt.Sprint(p.RetryAfter))
	}
	if p.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="director"`)
	}
	return h
}

// kinds of problems that are no affinity.RefusalReason.
const (
	kindMalformed    = "malformed"
	kindInvalid      = "invalid"
	kindConflict     = "conflict"
	kindNotFound     = "not-found"
	kindForbidden    = "forbidden"
	kindUnauthorized = "unauthorized"
	kindGone         = "gone"
	kindTooLarge     = "too-large"
	kindUnavailable  = "unavailable"
	kindUnsupported  = "unsupported"
	kindInternal     = "internal"
)

func problem(status int, kind, detail string, errs ...FieldError) *Problem {
	return &Problem{
		Type: "urn:tunneldirector:problem:" + kind, Title: http.StatusText(status), Status: status, Detail: detail, Errors: errs,
	}
}

// Conflict is a refusal for what there is at the moment, which the caller can mend.
func Conflict(detail string) *Problem { return problem(http.StatusConflict, kindConflict, detail) }

func faultErrors(faults []affinity.Fault) []FieldError {
	out := make([]FieldError, len(faults))
	for i, f := range faults {
		out[i] = FieldError{f.Field, clip(f.Value), f.Problem, f.Remedy}
	}
	return out
}

// clip keeps answers small whatever was sent.
func clip(s string) string {
	const limit = 200
	if len(s) <= limit {
		return strings.ToValidUTF8(s, "�")
	}
	return strings.ToValidUTF8(s[:limit], "�") + "..."
}

// refusalProblem is the problem document of a refused change.
func refusalProblem(r *affinity.Refusal) *Problem {
	status, kind, retry := http.StatusUnprocessableEntity, kindInvalid, 0
	switch r.Reason {
	case affinity.Conflict:
		status, kind = http.StatusConflict, kindConflict
	case affinity.Stale:
		status, kind = http.StatusPreconditionFailed, "stale"
	case affinity.NotFound:
		status, kind = http.StatusNotFound, kindNotFound
	case affinity.Forbidden:
		status, kind = http.StatusForbidden, kindForbidden
	case affinity.Full:
		status, kind, retry = http.StatusInsufficientStorage, "full", 60
	case affinity.Unwritable:
		status, kind, retry = http.StatusInsufficientStorage, "unwritable", 30
	}
	p := problem(status, kind, r.Object+" is refused", faultErrors(r.Faults)...)
	p.RetryAfter = retry
	return p
}

// AsProblem makes a problem of any error, as the API answers it.
func AsProblem(err error) *Problem { return asProblem(err) }

// asProblem makes a problem of any error.
func asProblem(err error) *Problem {
	var p *Problem
	if errors.As(err, &p) {
		return p
	}
	var r *affinity.Refusal
	if errors.As(err, &r) {
		return refusalProblem(r)
	}
	p = problem(http.StatusServiceUnavailable, kindUnavailable, err.Error())
	p.RetryAfter = 1
	return p
}

// invalid is a 422 about one field.
func invalid(field, value, what, remedy string) *Problem {
	return problem(http.StatusUnprocessableEntity, kindInvalid, "", FieldError{field, clip(value), what, remedy})
}

func notFound(what, name string) *Problem {
	return problem(http.StatusNotFound, kindNotFound, fmt.Sprintf("no %s %q", what, clip(name)))
}

// ownProblems turns huma's own errors (parameters, sizes) into the one shape of ours.
func ownProblems(_ huma.Context, _ string, v any) (any, error) {
	m, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	kind := kindInvalid
	switch {
	case m.Status >= 500:
		kind = kindInternal
	case m.Status == http.StatusRequestEntityTooLarge:
		kind = kindTooLarge
	case m.Status == http.StatusBadRequest:
		kind = kindMalformed
	}
	p := problem(m.Status, kind, m.Detail)
	for _, e := range m.Errors {
		if e == nil {
			continue
		}
		value := ""
		if e.Value != nil {
			value = fmt.Sprint(e.Value)
		}
		what, remedy := e.Message, ""
		if limit, ok := strings.CutPrefix(e.Message, "expected length <= "); ok {
			what, remedy = "is too long", "at most "+limit+" characters"
		}
		field := strings.TrimPrefix(strings.TrimPrefix(e.Location, "query."), "path.")
		p.Errors = append(p.Errors, FieldError{Field: field, Value: clip(value), Problem: what, Remedy: remedy})
	}
	return p, nil
}
