package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"tunneldirector/affinity"
)

func TestUnplaced(t *testing.T) {
	l := furnished()
	l.live("rs1", 1, false)
	l.live("rs2", 2, false)
	srv := serve(t, l, Options{})
	code, _, data := ask(t, srv, "PUT", "/v1/tunnels/a", `{"service":"ipsec"}`)
	if code != 201 || !strings.Contains(string(data), `"unplaced":"no real server is alive"`) || !strings.Contains(string(data), `"why":"unplaced"`) {
		t.Errorf("%d %s", code, data)
	}
	_, _, data = ask(t, srv, "POST", "/v1/tunnels/batch", `{"id":"b","service":"ipsec"}`)
	if sum := readOutcome(t, data).summary; sum.Unplaced != 1 || sum.Created != 1 {
		t.Errorf("%+v", sum)
	}
	if _, _, data := ask(t, srv, "GET", "/v1/tunnels?placed=no", ""); !strings.Contains(string(data), `"id":"a"`) {
		t.Errorf("%s", data)
	}
	if _, _, data := ask(t, srv, "GET", "/v1/realservers/rs1", ""); !strings.Contains(string(data), `"state":"dead"`) {
		t.Errorf("%s", data)
	}
}

// Each wrong type is told in words.
func TestWrongTypes(t *testing.T) {
	for body, want := range map[string]string{
		`{"service":true}`: "service: is true or false; expected a string", `{"service":{}}`: "service: is an object; expected a string", `{"service":[]}`: "service: is a list; expected a string",
		`{"endpoints":"a"}`: "endpoints: is a string; expected a list", `{"labels":[]}`: "labels: is a list; expected an object", `{"labels":{"a":1}}`: "labels.a: is a number; expected a string",
		`{"bandwidth_bps":99999999999999999999}`: `bandwidth_bps "99999999999999999999": is out of range; expected a whole number from 0 to 18446744073709551615`,
		`[]`:                                     "is a list; expected an object", `"x"`: "is a string; expected an object",
	} {
		p := decode([]byte(body), new(Tunnel))
		if p == nil || len(p.Errors) != 1 || p.Errors[0].String() != want && !strings.HasSuffix(p.Errors[0].String(), want) {
			t.Errorf("%s: %v, want %s", body, p, want)
		}
	}
}

// A broken set tells where it stopped; a later one mends it.
func TestSetBreaks(t *testing.T) {
	tests := []struct {
		name   string
		breaks func(*lab)
		why    string
	}{
		{"the disk", func(l *lab) { l.full = true }, "no writes"},
		{"the director", func(l *lab) { l.fail = errors.New("shutting down") }, "shutting down"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := furnished()
			srv := serve(t, l, Options{})
			tt.breaks(l)
			code, _, data := ask(t, srv, "PUT", "/v1/tunnels", setBody(3, tunnelLines(0, 3)...))
			if sum := readOutcome(t, data).summary; code != 200 || sum.Complete || !strings.Contains(sum.Why, tt.why) || sum.Created != 0 {
				t.Errorf("%d %+v", code, sum)
			}
		})
	}
}

// meddler changes a tunnel between a set's plan and its steps.
type meddler struct {
	*lab
	meddle func()
}

func (m *meddler) Do(ctx context.Context, ops []affinity.Op) ([]affinity.Result, error) {
	if m.meddle != nil {
		m.meddle()
		m.meddle = nil
	}
	return m.lab.Do(ctx, ops)
}

func TestSetYieldsToChangesMeanwhile(t *testing.T) {
	l := furnished()
	srv := serve(t, l, Options{})
	ask(t, srv, "POST", "/v1/tunnels/batch", strings.Join(tunnelLines(0, 10), "\n"))
	m := &meddler{lab: l, meddle: func() { ask(t, srv, "PUT", "/v1/tunnels/site-0009", `{"service":"ipsec","bandwidth_bps":77}`) }}
	other := serve(t, m, Options{})
	code, _, data := ask(t, other, "PUT", "/v1/tunnels", setBody(9, tunnelLines(0, 9)...))
	if sum := readOutcome(t, data).summary; code != 200 || sum.Newer != 1 || sum.Deleted != 0 || !sum.Complete || len(sum.Names.Newer) != 1 {
		t.Errorf("%d %+v", code, sum)
	}
	if tun, ok := l.Table().Tunnel("site-0009"); !ok || tun.Bandwidth != 77 {
		t.Errorf("the newer push was undone: %+v", tun)
	}
}

func TestProgressLine(t *testing.T) {
	rec := newRecorder()
	b := batch{out: newAnswers(rec, httptest.NewRequest(http.MethodPost, "/", nil)), progress: true, start: time.Now(), last: time.Now().Add(-time.Minute), sum: Summary{Lines: 7}}
	for range 2 { // the second one is not due
		if err := b.tell(); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.out.close(); err != nil {
		t.Fatal(err)
	}
	if got := rec.body.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, `"progress":{"lines":7`) {
		t.Error(got)
	}
}

// plain can do nothing that is optional, and fails at Status.
type plain struct{ l *lab }

func (p plain) Table() *affinity.Table { return p.l.Table() }
func (p plain) View() View             { return brokenView{p.l.View()} }
func (p plain) Do(ctx context.Context, ops []affinity.Op) ([]affinity.Result, error) {
	return p.l.Do(ctx, ops)
}

type brokenView struct{ View }

func (brokenView) Status(context.Context) (Status, error) {
	return Status{}, errors.New("the plane is away")
}
func (brokenView) Explain(context.Context, Question) (Explanation, error) {
	panic("a fault of this program")
}

func TestWhatFails(t *testing.T) {
	srv := serve(t, plain{furnished()}, Options{})
	for _, tt := range []struct {
		method, path, body string
		status             int
		contains           string
	}{
		{"PUT", "/v1/tunnels", setBody(0), 501, "not supported"},
		{"POST", "/v1/rebalance", "{}", 501, "not supported"},
		{"GET", "/v1/status", "", 503, "the plane is away"},
		{"GET", "/readyz", "", 503, "the plane is away"},
		{"GET", "/healthz", "", 200, ""},
		{"GET", "/v1/realservers", "", 503, "the plane is away"},
		{"GET", "/metrics", "", 500, "the plane is away"},
		{"GET", "/v1/lookup?dst=192.0.2.10", "", 500, "its log says more"},
		{"GET", "/v1/tunnels", "", 200, ""},
	} {
		if code, _, data := ask(t, srv, tt.method, tt.path, tt.body); code != tt.status || !strings.Contains(string(data), tt.contains) {
			t.Errorf("%s %s: %d, want %d: %s", tt.method, tt.path, code, tt.status, data)
		}
	}
}

// An answer is one line for people, with each fault and its remedy.
func TestProblemInWords(t *testing.T) {
	p := problem(http.StatusConflict, kindConflict, "tunnel a is refused", FieldError{"subnets[0]", "100.64.0.0/24", "is held by tunnel b", "delete b"}, FieldError{Problem: "and more"})
	if got, want := p.Error(), `Conflict: tunnel a is refused: subnets[0] "100.64.0.0/24": is held by tunnel b; delete b | and more`; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	if got := clip(strings.Repeat("é", 300)); len(got) > 210 || !strings.HasSuffix(got, "...") || strings.Contains(got, "\x80") {
		t.Errorf("clipped to %d bytes: %s", len(got), got)
	}
	if got := asProblem(fmt.Errorf("put: %w", p)); got != p {
		t.Errorf("%v", got)
	}
}
