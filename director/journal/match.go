package journal

import (
	"bytes"
	"encoding/json"
	"slices"

	"tunneldirector/director/api"
)

// A match finds the lines that were asked for.
type match struct {
	q    api.EventQuery
	part []byte // of each line that can match; nil: not known
}

// What a line is.
const (
	unreadable = iota
	differs
	matches
)

func newMatch(q api.EventQuery) match {
	m := match{q: q}
	if name, err := json.Marshal(q.Object); err == nil && q.Object != "" {
		m.part = name
	}
	return m
}

// line reads a line as far as it must.
func (m *match) line(text []byte) (e api.Recorded, state int) {
	if m.part != nil && !bytes.Contains(text, m.part) && bytes.HasPrefix(text, []byte("{")) && bytes.HasSuffix(text, []byte("}")) {
		return e, differs
	}
	if len(text) == 0 || json.Unmarshal(text, &e) != nil || e.Kind == "" {
		return e, unreadable
	}
	if m.event(&e) {
		return e, matches
	}
	return e, differs
}

func (m *match) event(e *api.Recorded) bool {
	end := e.Time
	if e.Until != nil {
		end = *e.Until
	}
	switch q := m.q; {
	case !q.Since.IsZero() && end.Before(q.Since), !q.Until.IsZero() && e.Time.After(q.Until):
		return false
	case len(q.Kinds) > 0 && !slices.Contains(q.Kinds, e.Kind), q.By != "" && q.By != e.By:
		return false
	case q.Object == "":
		return true
	}
	return slices.Contains([]string{e.Object, e.From, e.To, e.Backup, e.First, e.Last}, m.q.Object)
}
