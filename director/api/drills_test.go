package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// drills is a Drills that only notes.
type drills struct {
	in     []FaultInPlace
	asked  []string
	refuse error
	outage string
}

func (d *drills) Inject(_ context.Context, by string, r FaultRequest) (FaultInPlace, error) {
	d.asked = append(d.asked, fmt.Sprintf("%s: inject %s %s %s %d", by, r.ID, r.Kind, r.Target, r.ForMS))
	if d.refuse != nil {
		return FaultInPlace{}, d.refuse
	}
	f := FaultInPlace{ID: r.ID, Kind: r.Kind, Target: r.Target, Director: "lab", By: by, At: time.Now(), Until: time.Now().Add(time.Duration(r.ForMS) * time.Millisecond)}
	d.in = append(d.in, f)
	return f, nil
}

func (d *drills) Undo(_ context.Context, by, id, target string) (already bool, err error) {
	d.asked = append(d.asked, fmt.Sprintf("%s: undo %s %s", by, id, target))
	i := slices.IndexFunc(d.in, func(f FaultInPlace) bool { return f.ID == id })
	if i < 0 {
		return true, d.refuse
	}
	d.in = slices.Delete(d.in, i, i+1)
	return false, d.refuse
}

func (d *drills) InPlace() []FaultInPlace { return d.in }

func (d *drills) AllInPlace(context.Context) (FaultList, error) {
	return FaultList{Faults: d.in, Silent: []Silent{{Director: "d2", Why: "it is not alive"}}}, nil
}

func (d *drills) Outage() string { return d.outage }

const hostLoss = `{"id":"x-1","kind":"host-loss","target":"rs1","for_ms":5000}`

func TestWhoMakesFaults(t *testing.T) {
	tokens := tokens{"s-nms": {"nms1", RoleNMS}, "s-op": {"alice", RoleOperator}, "s-read": {"grafana", RoleRead}, "s-drill": {"rehearsal", RoleDrill}}
	for _, tt := range []struct {
		method, path, body string
		status             map[string]int // by secret
	}{
		{"POST", "/v1/faults", hostLoss, map[string]int{"": 401, "s-nms": 403, "s-read": 403, "s-op": 200, "s-drill": 200}},
		{"DELETE", "/v1/faults/x-1?target=rs1", "", map[string]int{"": 401, "s-nms": 403, "s-read": 403, "s-op": 200, "s-drill": 200}},
		{"GET", "/v1/faults", "", map[string]int{"": 401, "s-nms": 200, "s-read": 200, "s-op": 200, "s-drill": 200}},
		{"GET", "/v1/status", "", map[string]int{"s-drill": 200}},
		{"PUT", "/v1/tunnels/a", `{"service":"ipsec"}`, map[string]int{"s-drill": 403}},
		{"PUT", "/v1/freeze", "", map[string]int{"s-drill": 403}},
	} {
		for secret, want := range tt.status {
			d := &drills{}
			srv := serve(t, furnished(), Options{Tokens: tokens, Drills: d})
			var headers []string
			if secret != "" {
				headers = []string{"Authorization", "Bearer " + secret}
			}
			code, _, data := ask(t, srv, tt.method, tt.path, tt.body, headers...)
			if code != want {
				t.Errorf("%s %s as %q: status %d, want %d: %s", tt.method, tt.path, secret, code, want, data)
			}
			if code >= 400 && len(d.asked) > 0 {
				t.Errorf("%s %s as %q: %q", tt.method, tt.path, secret, d.asked)
			}
		}
	}
}

func TestFaultsByTheClient(t *testing.T) {
	d := &drills{}
	c, _ := serveUnix(t, furnished(), Options{Tokens: testTokens, Drills: d})
	ctx := t.Context()
	in, err := c.MakeFault(ctx, FaultRequest{ID: "x-1", Kind: "host-loss", Target: "rs1", ForMS: 5000})
	if err != nil || in.By != "local" || in.Until.Sub(in.At).Round(time.Second) != 5*time.Second {
		t.Fatalf("%+v, %v", in, err)
	}
	if st, err := c.Status(ctx); err != nil || len(st.Faults) != 1 || st.Faults[0].Kind != "host-loss" {
		t.Errorf("status says %+v, %v", st.Faults, err)
	}
	if l, err := c.Faults(ctx); err != nil || len(l.Faults) != 1 || len(l.Silent) != 1 {
		t.Errorf("%+v, %v", l, err)
	}
	for _, want := range []bool{false, true} {
		if already, err := c.UndoFault(ctx, "x-1", "rs1"); err != nil || already != want {
			t.Errorf("undone already: %v, want %v; %v", already, want, err)
		}
	}
	if want := []string{"local: inject x-1 host-loss rs1 5000", "local: undo x-1 rs1", "local: undo x-1 rs1"}; !cmp.Equal(d.asked, want) {
		t.Errorf("asked %q", d.asked)
	}
	d.refuse = problem(http.StatusForbidden, kindForbidden, "off here", FieldError{Field: "drill.allow", Problem: "is not set", Remedy: "set it"})
	if _, err := c.MakeFault(ctx, FaultRequest{ID: "x-2", Kind: "partition", Target: "lab", ForMS: 5000}); err == nil || !strings.Contains(err.Error(), "drill.allow: is not set") {
		t.Errorf("refused: %v", err)
	}
}

func TestFaultyFaults(t *testing.T) {
	for _, tt := range []struct{ method, path, body, says string }{
		{"POST", "/v1/faults", `{"id":"a/b","kind":"host-loss","target":"rs1","for_ms":5000}`, `"field":"id","value":"a/b"`},
		{"POST", "/v1/faults", `{"id":"-a","kind":"host-loss","target":"rs1","for_ms":5000}`, `"field":"id"`},
		{"POST", "/v1/faults", `{"id":"a","kind":"flood","target":"rs1","for_ms":5000}`, `"field":"kind","value":"flood","problem":"is no kind of failure","remedy":"one of terminator-crash, `},
		{"POST", "/v1/faults", `{"id":"a","kind":"host-loss","target":"rs1"}`, `"field":"for_ms","value":"0s"`},
		{"POST", "/v1/faults", `{"id":"a","kind":"host-loss","target":"rs1","for_ms":600001}`, `"field":"for_ms"`},
		{"POST", "/v1/faults", `{"id":"a","kind":"nms-empty","target":"nobody","for_ms":1000}`, `"field":"target","value":"nobody","problem":"has pushed no tunnels"`},
		{"POST", "/v1/faults", `{"id":"a","kind":"host-loss","for":"5s"}`, `"field":"for"`},
		{"DELETE", "/v1/faults/a.b", "", `"field":"id"`},
	} {
		d := &drills{}
		code, _, data := ask(t, serve(t, furnished(), Options{Drills: d}), tt.method, tt.path, tt.body)
		if code != 422 || !strings.Contains(string(data), tt.says) || len(d.asked) > 0 {
			t.Errorf("%s %s %s: %d %s, asked %q", tt.method, tt.path, tt.body, code, data, d.asked)
		}
	}
	if code, _, _ := ask(t, serve(t, furnished(), Options{}), "GET", "/v1/faults", ""); code != 404 {
		t.Errorf("without drills: %d", code)
	}
}

// What may be asked for is described, each kind of it.
func TestFaultsAreDescribed(t *testing.T) {
	srv := serve(t, furnished(), Options{Drills: &drills{}, Examiner: nobody{}})
	_, _, data := ask(t, srv, "GET", "/openapi.json", "")
	var d description
	if err := json.Unmarshal(data, &d); err != nil {
		t.Fatal(err)
	}
	checkRefs(t, data, d)
	s := New(furnished(), Options{Drills: &drills{}})
	schema := operationAt(s, "POST", "/v1/faults").RequestBody.Content["application/json"].Schema
	for _, kind := range append(FaultKinds(), "flood") {
		body := strings.Replace(hostLoss, "host-loss", kind, 1)
		if errs := misfits(s, schema, body); (len(errs) == 0) != (kind != "flood") {
			t.Errorf("%s: %v", kind, errs)
		}
	}
	if errs := misfits(s, schema, strings.Replace(hostLoss, "5000", "50", 1)); len(errs) == 0 {
		t.Error("50 ms is described as long enough")
	}
}

// nobody is an Examiner of one director, on which something happened.
type nobody struct{}

func (nobody) Examine(context.Context, bool) (DoctorReports, error) { return DoctorReports{}, nil }
func (nobody) ExplainAll(context.Context, Question) (Explanations, error) {
	return Explanations{}, nil
}
func (nobody) AllEvents(_ context.Context, since time.Time) (AllEvents, error) {
	return AllEvents{Events: []DirectorEvent{{Director: "d2", Event: Recorded{Time: since, Kind: "fault", Object: "rs1"}}}}, nil
}

func TestAllEvents(t *testing.T) {
	srv := serve(t, furnished(), Options{Examiner: nobody{}})
	code, _, data := ask(t, srv, "GET", "/v1/events/all?since=2026-01-02T03:04:05.5Z", "")
	if code != 200 || !strings.Contains(string(data), `{"director":"d2","event":{"time":"2026-01-02T03:04:05.5Z","kind":"fault","object":"rs1"}}`) || !strings.Contains(string(data), `"silent":[]`) {
		t.Errorf("%d %s", code, data)
	}
	for _, query := range []string{"", "?since=yesterday", "?since="} {
		if code, _, data := ask(t, srv, "GET", "/v1/events/all"+query, ""); code != 422 || !strings.Contains(string(data), `"field":"since"`) {
			t.Errorf("%q: %d %s", query, code, data)
		}
	}
}

// While a drill has the NMS's pushes refused, all that push are, and nothing else is.
func TestOutageOfTheNMS(t *testing.T) {
	d := &drills{outage: "drill x-1 says so"}
	srv := serve(t, furnished(), Options{Drills: d})
	for _, tt := range []struct{ method, path, body string }{
		{"PUT", "/v1/tunnels/a", `{"service":"ipsec"}`}, {"DELETE", "/v1/tunnels/a", ""}, {"POST", "/v1/tunnels/batch", tunnelLine(1)}, {"PUT", "/v1/tunnels", `{"count":0}`},
	} {
		code, h, data := ask(t, srv, tt.method, tt.path, tt.body)
		if code != 503 || h.Get("Retry-After") == "" || !strings.Contains(string(data), "drill x-1 says so") {
			t.Errorf("%s %s: %d %s", tt.method, tt.path, code, data)
		}
	}
	if code, _, _ := ask(t, srv, "PUT", "/v1/freeze", ""); code != 200 {
		t.Errorf("an operator's change: %d", code)
	}
	d.outage = ""
	if code, _, data := ask(t, srv, "PUT", "/v1/tunnels/a", `{"service":"ipsec"}`); code != 201 {
		t.Errorf("afterwards: %d %s", code, data)
	}
}

// An empty table of the NMS is tried, and never taken.
func TestEmptySetIsTried(t *testing.T) {
	const nmsEmptyOf = `{"id":"e","kind":"nms-empty","target":"nms1","for_ms":1000}`
	for _, tt := range []struct {
		name          string
		tunnels, up   int
		percent, code int
		says          string
	}{
		{"too much", 20, 0, 10, 409, "leaves out 20 of the 20 tunnels"},
		{"all up", 20, 20, 10, 409, "nothing would be deleted: the 20 tunnels of nms1 are up"},
		{"no protection", 20, 0, 100, 200, "delete 20 of 20 tunnels"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := furnished()
			srv := serve(t, l, Options{Tokens: testTokens, Drills: &drills{}, MaxDeletePercent: tt.percent})
			for i := range tt.tunnels {
				if code, _, data := ask(t, srv, "PUT", fmt.Sprintf("/v1/tunnels/t%d", i), `{"service":"ipsec"}`, "Authorization", "Bearer s-nms"); code != 201 {
					t.Fatalf("%d %s", code, data)
				}
				l.up[fmt.Sprintf("t%d", i)] = i < tt.up
			}
			for _, body := range []string{nmsEmptyOf, strings.Replace(nmsEmptyOf, `"target":"nms1",`, "", 1)} {
				code, _, data := ask(t, srv, "POST", "/v1/faults", body, "Authorization", "Bearer s-op")
				if code != tt.code || !strings.Contains(string(data), tt.says) {
					t.Errorf("%d %s", code, data)
				}
			}
			if n := l.Table().Len(); n != tt.tunnels {
				t.Errorf("%d tunnels are left of %d", n, tt.tunnels)
			}
		})
	}
}
