package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"tunneldirector/affinity"
)

// Whatever comes, it is a record or faults; a record that is taken reads back as what was pushed.
func FuzzTunnelJSON(f *testing.F) {
	for _, s := range []string{
		site42, `{"id":"a","service":"ipsec","endpoints":["203.0.113.5:41641","[2001:db8::5]:4500","2001:db8::5"],"labels":{"a":"b"},"separate_from":["x"],"generation":3,"state":"coming"}`,
		`{}`, `[]`, `null`, `{"id":1}`, `{"subnets":["100.64.0.1/10","::ffff:1.2.3.4/100","fe80::1%eth0/64"]}`, `{"endpoints":["::ffff:1.2.3.4","1.2.3.4:99999","1.2.3.4:0","fe80::1%x"]}`,
		"{\"labels\":{\"\\u0000\":\"\xff\"}}", `{"ID":"a"}`, `{"generation":18446744073709551616}`, `{"bandwidth_bps":1e3}`, strings.Repeat(`{"labels":`, 50),
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var w Tunnel
		if p := decode(data, &w); p != nil {
			if len(p.Errors) == 0 || p.Errors[0].Problem == "" || p.Status != 400 && p.Status != 422 {
				t.Fatalf("a problem that says nothing: %+v", p)
			}
			if b, err := json.Marshal(p); err != nil || len(b) > 4096 {
				t.Fatalf("problem of %d bytes, %v", len(b), err)
			}
			return
		}
		rec, faults := w.record()
		if len(faults) > 0 {
			for _, fault := range faults {
				if fault.Field == "" || fault.Problem == "" || fault.Remedy == "" {
					t.Fatalf("a fault that says too little: %+v", fault)
				}
			}
			return
		}
		if len(rec.Faults()) > 0 {
			return // the table refuses it
		}
		back, err := json.Marshal(wireTunnel(rec))
		if err != nil {
			t.Fatal(err)
		}
		var w2 Tunnel
		if p := decode(back, &w2); p != nil {
			t.Fatalf("%s is not taken back: %v", back, p)
		}
		again, faults := w2.record()
		if len(faults) > 0 || !affinity.SameIntent(rec, again) {
			t.Fatalf("%s came back as %s: %v", data, back, faults)
		}
	})
}

// fuzzDirector takes everything.
type fuzzDirector struct{ lab *lab }

func (d fuzzDirector) Table() *affinity.Table { return d.lab.Table() }
func (d fuzzDirector) View() View             { return d.lab.View() }
func (d fuzzDirector) Do(_ context.Context, ops []affinity.Op) ([]affinity.Result, error) {
	return make([]affinity.Result, len(ops)), nil
}

// Each line that is not blank is acknowledged or refused, once, whatever it holds and wherever the body ends.
func FuzzBatchNDJSON(f *testing.F) {
	for _, s := range []string{
		"", "\n", site42, site42 + "\n" + site42, "garbage\n{}\n\n{\"delete\":\"x\"}\n", "\r\n\xff\xfe\n[1]\n", "{\"id\":\n\"a\"}", "\x00", " \t\n{}",
	} {
		f.Add([]byte(s), false)
		f.Add([]byte(s), true)
	}
	s := New(fuzzDirector{furnished()}, Options{})
	f.Fuzz(func(t *testing.T, data []byte, cut bool) {
		rec := newRecorder()
		out := newAnswers(rec, httptest.NewRequest(http.MethodPost, "/", nil))
		var src io.Reader = bytes.NewReader(data)
		if cut {
			src = io.MultiReader(src, errReader{})
		}
		b := &batch{s: s, out: out, start: time.Now(), last: time.Now()}
		err := b.run(context.Background(), &streamBody{r: src, setDeadline: func(time.Time) error { return nil }})
		if closeErr := out.close(); closeErr != nil {
			t.Fatal(closeErr)
		}
		want := 0
		for line := range strings.Lines(string(data)) {
			if len(bytes.TrimSpace([]byte(line))) > 0 {
				want++
			}
		}
		o := readOutcome(t, rec.body.Bytes())
		sum := o.summary
		if errors.Is(err, errNotNDJSON) {
			want = sum.Lines // the rest was not read
		}
		if answered := sum.Created + sum.Changed + sum.Unchanged + sum.Deleted + sum.Refused; sum.Lines != want || answered != want || len(refusedLines(o)) != sum.Refused {
			t.Fatalf("%d lines: summary %+v, %d lines refused in the answer", want, sum, len(refusedLines(o)))
		}
		if sum.Complete != (err == nil) || cut && sum.Complete {
			t.Fatalf("complete %v, cut %v, error %v", sum.Complete, cut, err)
		}
	})
}
