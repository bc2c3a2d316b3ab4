package api

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"tunneldirector/affinity"
)

func TestDrainPlan(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	in := func(d time.Duration) string { return now.Add(d).Format(time.RFC3339) }
	tests := []struct {
		name, body string
		milli      uint32
		in         time.Duration // the deadline; 0: none
	}{
		{"text", `{"rate":"20/s"}`, 20_000, 0},
		{"bare text", `{"rate":" 20 "}`, 20_000, 0},
		{"blanks", `{"rate":"1.5 / s"}`, 1500, 0},
		{"number", `{"rate":0.25}`, 250, 0},
		{"exponent", `{"rate":2e1}`, 20_000, 0},
		{"slowest", `{"rate":"0.001/s"}`, 1, 0},
		{"fastest", `{"rate":1000}`, 1_000_000, 0},
		{"duration", `{"deadline":"2h30m"}`, 0, 150 * time.Minute},
		{"time", `{"deadline":"` + in(time.Hour) + `"}`, 0, time.Hour},
		{"another zone", `{"deadline":"` + strings.Replace(in(3*time.Hour), "Z", "+02:00", 1) + `"}`, 0, time.Hour},
		{"longest", `{"deadline":"720h"}`, 0, 720 * time.Hour},
		{"all at the end", `{"rate":0,"deadline":"1s"}`, 0, time.Second},
		{"both", `{"rate":"1/s","deadline":"1h"}`, 1000, time.Hour},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var w DrainRequest
			if p := decode([]byte(tt.body), &w); p != nil {
				t.Fatal(p)
			}
			plan, f := w.plan(now)
			if len(f) > 0 || plan == nil || plan.Milli != tt.milli || (plan.By != 0) != (tt.in != 0) {
				t.Fatalf("%+v %v", plan, f)
			}
			if tt.in != 0 && !plan.By.Time().Equal(now.Add(tt.in)) {
				t.Errorf("by %v, wanted in %v", plan.By.Time(), tt.in)
			}
		})
	}
	if plan, f := new(DrainRequest).plan(now); plan != nil || f != nil {
		t.Errorf("nothing was asked for: %+v %v", plan, f)
	}
}

// Each fault names its field, the value, and what to write instead.
func TestDrainFaults(t *testing.T) {
	tests := []struct {
		name, body string
		status     int
		contains   []string
	}{
		{"no rate", `{"rate":0}`, 422, []string{`"field":"rate","value":"0"`, "moves nothing, ever", "or give a deadline"}},
		{"no rate in words", `{"rate":"0/s"}`, 422, []string{"moves nothing, ever"}},
		{"negative", `{"rate":-1}`, 422, []string{`"value":"-1"`, "is negative", "20/s"}},
		{"negative with a deadline", `{"rate":"-0.5/s","deadline":"1h"}`, 422, []string{"is negative"}},
		{"too fast", `{"rate":"1000.5/s"}`, 422, []string{"is over 1000/s"}},
		{"endless", `{"rate":"Inf"}`, 422, []string{"is over 1000/s"}},
		{"not a number", `{"rate":"NaN"}`, 422, []string{"is not a rate"}},
		{"too slow", `{"rate":0.0001}`, 422, []string{"less than one tunnel in 1000 s", "0.001/s"}},
		{"unknown unit", `{"rate":"20/min"}`, 422, []string{`"value":"20/min"`, "unknown unit", "tunnels a second"}},
		{"no unit", `{"rate":"20/"}`, 422, []string{"unknown unit"}},
		{"words", `{"rate":"slowly"}`, 422, []string{"is not a rate"}},
		{"switch", `{"rate":true}`, 422, []string{`"value":"true"`, "is not a rate"}},
		{"list", `{"rate":[20]}`, 422, []string{"is not a rate"}},
		{"past", `{"deadline":"2020-01-01T00:00:00Z"}`, 422, []string{`"field":"deadline","value":"2020-01-01T00:00:00Z"`, "is over already", "director repin"}},
		{"now", `{"deadline":"0s"}`, 422, []string{"is over already"}},
		{"negative duration", `{"deadline":"-2h"}`, 422, []string{"is over already"}},
		{"too late", `{"deadline":"721h"}`, 422, []string{"over 30 days", "720h"}},
		{"far future", `{"deadline":"9999-12-31T23:59:59Z"}`, 422, []string{"over 30 days"}},
		{"days", `{"deadline":"2d"}`, 422, []string{"neither a time nor a duration", "2h, 90m"}},
		{"no zone", `{"deadline":"2026-11-21T10:00:00"}`, 422, []string{"neither a time nor a duration"}},
		{"overflow", `{"deadline":"99999999999999h"}`, 422, []string{"neither a time nor a duration"}},
		{"number", `{"deadline":7200}`, 422, []string{`"field":"deadline"`, "is a number", "expected a string"}},
		{"both", `{"rate":"x","deadline":"y"}`, 422, []string{`"field":"rate"`, `"field":"deadline"`}},
		{"unknown field", `{"speed":20}`, 422, []string{`"field":"speed"`, "rate, deadline"}},
		{"not an object", `20`, 422, []string{"expected an object"}},
		{"broken", `{"rate":`, 400, []string{"not well-formed JSON"}},
		{"nobody", `{"rate":"20/s"}`, 404, nil},
	}
	srv := serve(t, furnished(), Options{})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := "/v1/realservers/rs1/drain"
			if tt.status == 404 {
				path = "/v1/realservers/rs9/drain"
			}
			code, _, data := ask(t, srv, "POST", path, tt.body)
			if code != tt.status {
				t.Errorf("status %d, want %d: %s", code, tt.status, data)
			}
			for _, want := range tt.contains {
				if !strings.Contains(string(data), want) {
					t.Errorf("no %s in %s", want, data)
				}
			}
		})
	}
}

func TestDrain(t *testing.T) {
	l := furnished()
	srv := serve(t, l, Options{})
	steps := []struct {
		path, body string
		admin      affinity.Admin
		milli      uint32
		planned    bool
	}{
		{"drain", "", affinity.Drained, 0, false},
		{"drain", `{"rate":"20/s","deadline":"2h"}`, affinity.Drained, 20_000, true},
		{"drain", "{}", affinity.Drained, 0, false},
		{"drain", `{"rate":5}`, affinity.Drained, 5000, true},
		{"undrain", "", affinity.Active, 0, false},
	}
	for _, s := range steps {
		if code, _, data := ask(t, srv, "POST", "/v1/realservers/rs1/"+s.path, s.body); code != 200 || !strings.Contains(string(data), `"changed":true`) {
			t.Fatalf("%s %s: %d %s", s.path, s.body, code, data)
		}
		rs, _ := l.Table().RealServer("rs1")
		if rs.Admin != s.admin || (rs.Drain != nil) != s.planned || s.planned && (rs.Drain.Milli != s.milli || rs.Drain.By == 0 != !strings.Contains(s.body, "deadline")) {
			t.Errorf("after %s %s: %v %+v", s.path, s.body, rs.Admin, rs.Drain)
		}
	}
	if code, _, _ := ask(t, srv, "POST", "/v1/realservers/rs1/drain", strings.Repeat(" ", maxObject+1)); code != http.StatusRequestEntityTooLarge {
		t.Errorf("a body without end: %d", code)
	}
}

// Whatever is asked for, it is a drain within its bounds, or faults that each say enough.
func FuzzDrainJSON(f *testing.F) {
	for _, s := range []string{`{}`, `{"rate":"20/s","deadline":"2h"}`, `{"rate":0.5}`, `{"rate":-1e999}`, `{"rate":"0x1p-2"}`, `{"rate":"","deadline":""}`, `{"rate":{"a":[]}}`,
		`{"deadline":"2026-11-21T10:00:00.5+14:00"}`, `{"deadline":"1e3h"}`, `{"rate":"\u0000","deadline":"\ufffd"}`} {
		f.Add([]byte(s))
	}
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	f.Fuzz(func(t *testing.T, data []byte) {
		var w DrainRequest
		if p := decode(data, &w); p != nil {
			if len(p.Errors) == 0 || p.Errors[0].Problem == "" || p.Status != 400 && p.Status != 422 {
				t.Fatalf("a problem that says nothing: %+v", p)
			}
			return
		}
		plan, faults := w.plan(now)
		for _, x := range faults {
			if x.Field == "" || x.Problem == "" || x.Remedy == "" {
				t.Fatalf("a fault that says too little: %+v", x)
			}
		}
		if p := faults.problem("it"); p != nil {
			if b, err := json.Marshal(p); err != nil || len(b) > 4096 {
				t.Fatalf("problem of %d bytes, %v", len(b), err)
			}
			return
		}
		if plan != nil && (plan.Milli > 1000*maxDrainRate || plan.Milli == 0 && plan.By == 0 || plan.By != 0 && (!plan.By.Time().After(now) || plan.By.Time().Sub(now) > maxDrainTime)) {
			t.Fatalf("%s became %+v", data, plan)
		}
	})
}
