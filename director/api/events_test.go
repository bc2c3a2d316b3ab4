package api

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A shelf is a Journal in memory, whose positions are numbers. It takes a query as given, and does not narrow by it.
type shelf struct {
	mu      sync.Mutex // guards what follows
	events  []Recorded
	asked   []EventQuery
	gone    int // up to this one
	changed chan struct{}
	stats   JournalStats
}

func newShelf(n int) *shelf {
	s := &shelf{changed: make(chan struct{}), stats: JournalStats{Writable: true}}
	for range n {
		s.add()
	}
	return s
}

func (s *shelf) add() {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.events) + 1
	s.events = append(s.events, Recorded{Position: strconv.Itoa(n), Time: time.Unix(1_700_000_000, 0).UTC(), Kind: "peer", Object: fmt.Sprint("d", n)})
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *shelf) Read(_ context.Context, q EventQuery) (EventList, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, q)
	from, upto := 0, len(s.events)
	for _, x := range []struct {
		text string
		into *int
	}{{q.After, &from}, {q.Before, &upto}} {
		if x.text == "" {
			continue
		}
		n, err := strconv.Atoi(x.text)
		if err != nil {
			return EventList{}, fmt.Errorf("%w: %s", ErrBadPosition, x.text)
		}
		*x.into = n
	}
	switch {
	case q.After != "" && from < s.gone:
		return EventList{}, ErrGone
	case q.Before != "":
		upto--
	}
	list := s.events[from:upto]
	more := len(list) > q.Limit
	if more && q.After != "" {
		list = list[:q.Limit]
	} else if more {
		list = list[len(list)-q.Limit:]
	}
	end := strconv.Itoa(from)
	if len(list) > 0 {
		end = list[len(list)-1].Position
	}
	return EventList{Events: list, End: end, More: more, Unreadable: 1}, nil
}

func (s *shelf) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

func (s *shelf) Stats() JournalStats { return s.stats }

// eventWords are the objects of an answer, and its page.
func eventWords(lines []EventLine) (s string) {
	for _, l := range lines {
		if l.Event != nil {
			s += l.Event.Object + " "
		} else {
			s += fmt.Sprintf("| %s end %s more %t unreadable %d %s", l.Page.Director, l.Page.End, l.Page.More, l.Page.Unreadable, l.Page.Why)
		}
	}
	return strings.TrimSpace(s)
}

func TestEventsAreListed(t *testing.T) {
	j := newShelf(5)
	srv := serve(t, furnished(), Options{Journal: j})
	c, err := NewClient(ClientOptions{URL: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	for _, tt := range []struct {
		q    EventQuery
		want string
	}{
		{EventQuery{Limit: 1000}, "d1 d2 d3 d4 d5 | lab end 5 more false unreadable 1"},
		{EventQuery{Limit: 2, Since: at, Until: at, Kinds: []string{"peer", "moved"}, Object: "a b", By: "nms"}, "d4 d5 | lab end 5 more true unreadable 1"},
		{EventQuery{Limit: 2, Before: "4"}, "d2 d3 | lab end 3 more true unreadable 1"},
		{EventQuery{Limit: 2, After: "1"}, "d2 d3 | lab end 3 more true unreadable 1"},
	} {
		var lines []EventLine
		for l, err := range c.Events(t.Context(), tt.q, false) {
			if err != nil {
				t.Fatal(err)
			}
			lines = append(lines, l)
		}
		if got := eventWords(lines); got != tt.want {
			t.Errorf("%+v: %s, wanted %s", tt.q, got, tt.want)
		}
		if d := cmp.Diff(tt.q, j.asked[len(j.asked)-1]); d != "" {
			t.Errorf("the journal was asked for something else: %s", d)
		}
	}
}

func TestEventsFaults(t *testing.T) {
	j := newShelf(3)
	j.gone = 2
	srv := serve(t, furnished(), Options{Journal: j})
	for query, want := range map[string]string{
		"since=yesterday": `"field":"since"`, "until=1": `"field":"until"`, "kind=move": "one of tunnel-put", "limit=0": "from 1 to 10000", "limit=10001": "from 1 to 10000",
		"after=x": `422 "field":"after"`, "before=x": `422 "field":"before"`, "after=1": "410 not kept any more", "before=1&after=2": "say before, or after", "before=1&follow=true": `"field":"before"`,
		"follow=true&until=2026-01-02T03:04:05Z": `"field":"until"`, "realserver=x": "not a known parameter",
	} {
		code, _, data := ask(t, srv, "GET", "/v1/events?"+query, "")
		status, part, coded := strings.Cut(want, " ")
		if _, err := strconv.Atoi(status); !coded || err != nil {
			status, part = "422", want
		}
		if strconv.Itoa(code) != status || !strings.Contains(string(data), part) {
			t.Errorf("%s: %d %s, wanted %s %s", query, code, data, status, part)
		}
	}
	if code, _, data := ask(t, serve(t, furnished(), Options{}), "GET", "/v1/events", ""); code != http.StatusNotImplemented || !strings.Contains(string(data), "keeps no events") {
		t.Errorf("without a journal: %d %s", code, data)
	}
	operator := tokens{"s": {"n", RoleRead}}
	srv = serve(t, furnished(), Options{Journal: j, Tokens: operator})
	if code, _, _ := ask(t, srv, "GET", "/v1/events", ""); code != 401 {
		t.Errorf("without a token: %d", code)
	}
	if code, _, _ := ask(t, srv, "GET", "/v1/events", "", "Authorization", "Bearer s"); code != 200 {
		t.Errorf("with a token to read: %d", code)
	}
}

// What happens is told as it does, each event once; an idle stream shows that it lives.
func TestEventsAreFollowed(t *testing.T) {
	j := newShelf(3)
	srv := serve(t, furnished(), Options{Journal: j, Heartbeat: 20 * time.Millisecond})
	c, err := NewClient(ClientOptions{URL: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	pages := 0
	for l, err := range c.Events(t.Context(), EventQuery{Limit: 2}, true) {
		if err != nil {
			t.Fatal(err)
		}
		if l.Event != nil {
			got = append(got, l.Event.Object)
		} else {
			pages++
		}
		if pages == 1 && l.Page != nil {
			for range 5 {
				j.add()
			}
		}
		if pages > 5 && len(got) == 7 {
			break
		}
	}
	if d := cmp.Diff([]string{"d2", "d3", "d4", "d5", "d6", "d7", "d8"}, got); d != "" {
		t.Error(d)
	}
	srv.CloseClientConnections()
}

// A stream that is followed ends with a reason when events are deleted faster than they are read.
func TestFollowersFallBehind(t *testing.T) {
	j := newShelf(3)
	srv := serve(t, furnished(), Options{Journal: j, Heartbeat: 10 * time.Millisecond})
	c, err := NewClient(ClientOptions{URL: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	last, failed := "", error(nil)
	for l, err := range c.Events(t.Context(), EventQuery{Limit: 2}, true) {
		if failed = err; err == nil && l.Page != nil {
			last = l.Page.Why
			j.mu.Lock()
			j.gone = 4
			j.mu.Unlock()
		}
	}
	if !strings.Contains(last, "not kept any more") || failed == nil {
		t.Errorf("it ended with %q, %v", last, failed)
	}
}

// What may be asked for is what there is.
func TestEventKinds(t *testing.T) {
	s := New(furnished(), Options{Journal: newShelf(0)})
	for _, p := range operationAt(s, "GET", "/v1/events").Parameters {
		if p.Name != "kind" {
			continue
		}
		var described []string
		for _, k := range p.Schema.Items.Enum {
			described = append(described, fmt.Sprint(k))
		}
		if d := cmp.Diff(EventKinds(), described); d != "" {
			t.Error(d)
		}
		return
	}
	t.Error("no kind may be asked for")
}
