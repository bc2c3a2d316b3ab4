package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tunneldirector/integration/lab"
)

func TestParseRefuses(t *testing.T) {
	here := filepath.Join(t.TempDir(), "director")
	if err := os.WriteFile(here, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	root := os.Geteuid() == 0
	for _, tt := range []struct {
		name string
		args []string
		says string // in the refusal; "": none
	}{
		{"too many sites", []string{"-sites", "61"}, "sites are 3 to 60"},
		{"too few sites", []string{"-sites", "2"}, "sites are 3 to 60"},
		{"too many tunnels", []string{"-further", "131073"}, "131072"},
		{"something after the flags", []string{"-sites", "3", "more"}, "nothing follows"},
		{"unknown flag", []string{"-site", "3"}, "not defined"},
		{"no program", []string{"-director", here + "-no"}, "go build"},
		{"all is well", []string{"-director", here}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := tt.says
			if !root && (want == "" || want == "go build") {
				want = "needs root"
			}
			_, err := parse(tt.args, new(bytes.Buffer))
			if (err != nil) != (want != "") || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %q", err, want)
			}
		})
	}
}

func TestChanges(t *testing.T) {
	before := machine{"link lo": true, "link eth0": true}
	now := machine{"link lo": true, "link veth1": true}
	now.add("network namespace", "td-1-1-rs1") // of another process's lab
	want := []string{"link eth0 is gone", "link veth1 is new"}
	if diff := cmp.Diff(want, now.changes(before)); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	if got := before.changes(before); len(got) > 0 {
		t.Errorf("changes to itself: %q", got)
	}
}

func TestFailuresComeFirst(t *testing.T) {
	r := newResult(plan{sites: 3})
	r.HostUnchanged, r.Restored["site-001"] = true, 15_000
	var good, bad bytes.Buffer
	r.print(&good, "results")
	r.fail("the sky fell on %s", "rs1")
	r.print(&bad, "results")
	if !strings.HasPrefix(strings.TrimSpace(good.String()), "ALL AS PROMISED") {
		t.Errorf("good:\n%s", good.String())
	}
	if !strings.HasPrefix(strings.TrimSpace(bad.String()), "NOT AS PROMISED: the sky fell on rs1") || strings.Contains(bad.String(), "ALL AS") {
		t.Errorf("bad:\n%s", bad.String())
	}
}

// TestResultNames: others read these names.
func TestResultNames(t *testing.T) {
	path := filepath.Join(t.TempDir(), "build", "demo.json")
	if err := newResult(plan{sites: 3}).write(path); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"sites", "both_ways_same_rs", "both_ways_same_rs_of", "pushed", "push_seconds", "restored_ms", "restart_packets_lost", "restart_packets_sent",
	} {
		if _, ok := got[name]; !ok {
			t.Errorf("no %s in %s", name, data)
		}
	}
}

func TestWhen(t *testing.T) {
	event := time.Unix(1000, 0)
	at := func(ms int) time.Time { return event.Add(time.Duration(ms) * time.Millisecond) }
	answered := lab.Echo{Sent: at(0), Received: at(1)}
	both := [2][]lab.Echo{{answered, {Sent: at(20)}, {Sent: at(40)}}, {{Sent: at(-20)}, answered}}
	if sent, lost := tally(both); sent != 5 || lost != 3 {
		t.Errorf("tally: %d sent, %d lost, want 5 and 3", sent, lost)
	}
	want := "2 that the site sent, 1 that the target sent, from -20ms to 40ms after it"
	if got := when(both, event); got != want {
		t.Errorf("when: got %q, want %q", got, want)
	}
}
