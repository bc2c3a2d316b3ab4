package exec

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"tunneldirector/director/agent"
)

func TestParseRefuses(t *testing.T) {
	many := strings.Repeat(`"100.64.0.0/24",`, agent.MaxSubnets) + `"100.64.0.0/24"`
	for _, tt := range []struct{ name, text, says string }{
		{"half a line", first, "line 1: it breaks off"},
		{"half a second line", first + "\n" + second[:20], "line 2"},
		{"an empty line", first + "\n\n" + second + "\n", "line 2"},
		{"not JSON", "site1 203.0.113.5\n", "line 1"},
		{"two on a line", first + second + "\n", "line 1"},
		{"an unknown key", `{"peer":"a","endpoint":"203.0.113.5","name":"b"}` + "\n", "name"},
		{"a key twice", `{"peer":"a","peer":"b","endpoint":"203.0.113.5"}` + "\n", "peer"},
		{"no peer", `{"endpoint":"203.0.113.5"}` + "\n", "peer"},
		{"a long peer", fmt.Sprintf(`{"peer":%q,"endpoint":"203.0.113.5"}`, strings.Repeat("x", agent.MaxText+1)) + "\n", "peer"},
		{"not UTF-8", "{\"peer\":\"a\xff\",\"endpoint\":\"203.0.113.5\"}\n", "UTF-8"},
		{"no endpoint", `{"peer":"a"}` + "\n", "endpoint"},
		{"a name for an endpoint", `{"peer":"a","endpoint":"site.example:1"}` + "\n", "endpoint"},
		{"no address", `{"peer":"a","endpoint":"0.0.0.0:1"}` + "\n", "endpoint"},
		{"host bits", `{"peer":"a","endpoint":"203.0.113.5","subnets":["100.64.0.1/24"]}` + "\n", "100.64.0.1/24"},
		{"an address for a subnet", `{"peer":"a","endpoint":"203.0.113.5","subnets":["100.64.0.1"]}` + "\n", "subnets"},
		{"many subnets", `{"peer":"a","endpoint":"203.0.113.5","subnets":[` + many + `]}` + "\n", "at most"},
		{"a peer twice", first + "\n" + second + "\n" + first + "\n", `line 3: peer "site1" is on line 1`},
		{"negative bytes", `{"peer":"a","endpoint":"203.0.113.5","rx":-1}` + "\n", "rx"},
		{"milliseconds", `{"peer":"a","endpoint":"203.0.113.5","since":1767225600000}` + "\n", "seconds"},
		{"a huge line", `{"peer":"` + strings.Repeat("x", maxLine) + `"}` + "\n", "at most"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got, err := parse([]byte(tt.text)); err == nil || !strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), "line ") {
				t.Errorf("got %v, %v, want %q", got, err, tt.says)
			}
		})
	}
}

func TestParseTooMany(t *testing.T) {
	var b strings.Builder
	for i := range agent.MaxReported + 1 {
		fmt.Fprintf(&b, "{\"peer\":\"site%d\",\"endpoint\":\"203.0.113.5:%d\"}\n", i, i%65535+1)
	}
	if _, err := parse([]byte(b.String())); err == nil || !strings.Contains(err.Error(), "at most 50000") {
		t.Errorf("got %v", err)
	}
}

func TestHistory(t *testing.T) {
	start := time.Unix(1_900_000_000, 0)
	h := history{}
	look := func(after time.Duration, rx uint64) agent.Tunnel {
		all := []agent.Tunnel{{Peer: "a", Rx: rx}}
		h.complete(start.Add(after), all)
		return all[0]
	}
	if got := look(0, 5); !got.Since.Equal(start) || !got.Last.IsZero() {
		t.Errorf("first: %+v", got)
	}
	if got := look(time.Second, 6); !got.Since.Equal(start) || !got.Last.Equal(start.Add(time.Second)) {
		t.Errorf("grown: %+v", got)
	}
	if got := look(2*time.Second, 6); !got.Last.Equal(start.Add(time.Second)) {
		t.Errorf("idle: %+v", got)
	}
	if got := look(3*time.Second, 1); !got.Since.Equal(start.Add(3 * time.Second)) {
		t.Errorf("counted anew: %+v", got)
	}
	told := []agent.Tunnel{{Peer: "a", Since: start.Add(-time.Hour), Last: start.Add(-time.Minute), Rx: 9}}
	h.complete(start.Add(4*time.Second), told)
	if !told[0].Since.Equal(start.Add(-time.Hour)) || !told[0].Last.Equal(start.Add(-time.Minute)) {
		t.Errorf("told: %+v", told[0])
	}
	if h.complete(start, nil); len(h) > 0 {
		t.Error("what is gone is not forgotten")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(first + "\n" + second + "\n")
	f.Add(`{"peer":"a","endpoint":"[fe80::1%x]:1","since":1e-9,"subnets":["::ffff:1.2.3.0/120"]}` + "\n")
	f.Fuzz(func(t *testing.T, text string) {
		all, err := parse([]byte(text))
		if err != nil {
			if !strings.HasPrefix(err.Error(), "line ") {
				t.Fatalf("%v does not tell the line", err)
			}
			return
		}
		if len(all) != strings.Count(text, "\n") {
			t.Fatalf("%d tunnels of %q", len(all), text)
		}
		for _, x := range all {
			if x.Peer == "" || !x.Endpoint.Addr().IsValid() || len(x.Subnets) > agent.MaxSubnets {
				t.Fatalf("took %+v", x)
			}
		}
	})
}

func BenchmarkParse(b *testing.B) {
	var text strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&text, "{\"peer\":\"site%d\",\"endpoint\":\"203.0.113.5:%d\",\"subnets\":[\"100.64.%d.0/24\"],\"since\":1767225600,\"rx\":%d}\n", i, i+1, i%256, i)
	}
	for b.Loop() {
		if _, err := parse([]byte(text.String())); err != nil {
			b.Fatal(err)
		}
	}
}
