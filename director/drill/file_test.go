package drill

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tunneldirector/director/config/tree"
)

// What a file does not say is filled in; what it says is what is read.
func TestParse(t *testing.T) {
	d, err := Parse([]byte(`
name: mine
what: All that can be said.
needs: {directors: 2, real_servers: 3, tunnels: 4, spare: true}
steps:
  - wait: 1s
  - {fault: host-loss, target: rs1, for: 20s}
  - fault: director-hang
  - fault: drain
  - undo: true
  - settle: 10s
expect:
  outage: {median: 1s, p99: 2s, worst: 3s}
  lost: 1
  moved: target
  refused: true
abort: {real_servers: 1, directors: 1, unplaced: 2}
`), "mine.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := &Drill{
		Name: "mine", What: "All that can be said.", Needs: Needs{Directors: 2, RealServers: 3, Tunnels: 4, Spare: true},
		Sample: Sample{Tunnels: 20, Every: 50 * time.Millisecond},
		Steps: []Step{
			{Wait: time.Second}, {Fault: HostLoss, Target: "rs1", For: 20 * time.Second}, {Fault: DirectorHang, Target: Owner, For: 30 * time.Second},
			{Fault: Drain, Target: Busiest, For: 30 * time.Second}, {Undo: true}, {Settle: 10 * time.Second},
		},
		Expect: Expect{Outage: Outage{time.Second, 2 * time.Second, 3 * time.Second}, Lost: new(1.0), Moved: MovedTarget, Refused: true},
		Abort:  Abort{Outage: time.Minute, RealServers: 1, Directors: 1, Unplaced: 2},
	}
	if diff := cmp.Diff(want, d); diff != "" {
		t.Error(diff)
	}
}

// All faults are told at once, each with its field, its line, and what would be right.
func TestParseFaults(t *testing.T) {
	const rest = "\nsteps: [{wait: 1s}]"
	for _, tt := range []struct {
		name, text string
		want       []string // parts of each fault
	}{
		{"nothing", "# nothing", []string{"is empty"}},
		{"no YAML", "a: [", []string{"not YAML: sequence end token ']' not found (line 1)"}},
		{"large", strings.Repeat("#", maxFile+1), []string{"has 65537 bytes"}},
		{"two documents", "name: a\n---\nname: b", []string{"a second document begins here; a file holds one drill (line 3)"}},
		{"a list", "- a", []string{"is a list, not a mapping"}},
		{"types", "name: 1\nwhat: [a]\nneeds: {spare: 1, directors: x, tunnels: 1.5}\nsample: {every: 5}\nsteps: {}\nexpect: {lost: x, outage: {worst: fast}}\nabort: !!str a", []string{
			"name: is a number, not text; put it in quotes (line 1)", "what: is a list", "needs.spare: is a number, not true or false", "needs.directors: is text, not a number",
			"needs.tunnels: 1.5 is not a whole number", "sample.every: 5 lacks a unit; write 200ms or 5s", "steps: is a mapping, not a list", "expect.lost: is text, not a number",
			`expect.outage.worst: "fast" is not a duration; write`, "abort: is nothing that is read here"}},
		{"unknown and twice", "name: a\nname: b\nwhat: x\nwhen: now\nsteps:\n  - wait: 1s\n    fro: 2s\n1: b", []string{
			"name: stands twice, first in line 1", "when: unknown key; known here are name, what, needs, sample", "steps[0].fro: unknown key; known here are wait, fault", "a key must be plain text"}},
		{"what is missing", "expect: {}", []string{"name: is missing", "what: has 0 characters", "steps: has 0; write 1 to 100"}},
		{"values", "name: A b\nwhat: x\nneeds: {directors: -1, real_servers: 5000, tunnels: -2}\nsample: {tunnels: 1001, every: 1ms}\nexpect: {lost: 101, moved: some, refused: true, outage: {median: -1s, p99: 11m, worst: 1h}}\n" +
			"abort: {outage: 1ms, real_servers: -1, directors: -1, unplaced: -1}" + rest, []string{
			`name: "A b" is not a name`, "needs.directors: -1 is not between 0 and 256", "needs.real_servers: 5000", "needs.tunnels", "sample.tunnels: 1001 is not between 1 and 1000", "sample.every: 1ms is not between 10ms and 10s",
			"expect.outage.median", "expect.outage.p99", "expect.outage.worst: 1h0m0s is not between 0s and 10m0s (line 5)", "expect.lost: 101 is not between 0 and 100", `expect.moved: "some" is not one of none, target, any`,
			"expect.refused: there is no fault", "abort.outage: 1ms is not between 1s and 10m", "abort.real_servers", "abort.directors", "abort.unplaced"}},
		{"steps", `name: a
what: x
steps:
  - {}
  - {wait: 1s, undo: true}
  - {wait: -1s}
  - {settle: 1ms}
  - {undo: true, target: rs1, for: 1s}
  - {fault: earthquake}
  - {fault: host-loss, target: owner}
  - {fault: host-loss, for: 11m}
  - {fault: director-hang, target: each}
  - {fault: director-restart, target: each}
  - {fault: nms-empty, target: d1}
  - {fault: link-cut, target: "a b"}
  - {fault: drain}
  - {fault: drain, target: rs1}
  - {fault: drain, target: busiest}
  - {emptied: 1ms}
  - {undo: true}
  - {emptied: 1m}
`, []string{
			"steps[0]: has 0 of wait, fault, emptied, undo: true and settle; exactly one is a step (line 4)", "steps[1]: has 2 of", "steps[2].wait: -1s is not between", "steps[3].settle: 1ms is not between 1s",
			`steps[4].target: "rs1": only a fault has a target; leave it out (line 8)`, "steps[4].for: 1s: only a fault", `steps[5].fault: "earthquake" is not one of director-crash, director-hang`,
			`steps[6].target: host-loss befalls a real server, and cannot befall "owner"; write busiest, or a name`, "steps[7].for: 11m0s is not between 1s and 10m0s",
			`steps[8].target: director-hang befalls a director, and cannot befall "each"; write owner, assigner, other, or a name`, `steps[10].target: "d1": nms-empty befalls the cluster`,
			`steps[11].target: "a b" is no name of a real server`, "steps[14]: drain of busiest is in place already, by steps[12]; undo it first",
			"steps[15].emptied: 1ms is not between 1s and 10m0s", "steps[17]: nothing is drained then that could be empty"}},
		{"too long", "name: a\nwhat: x\nsteps: [{wait: 20m}, {settle: 11m}]", []string{"steps[1]: the steps wait for 31m0s up to here; all may for 30m0s"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d, err := Parse([]byte(tt.text), "x.yaml")
			var faults tree.Faults
			if !errors.As(err, &faults) || d != nil || !strings.HasPrefix(err.Error(), "drill x.yaml:\n") {
				t.Fatalf("%v, %T %v; want Faults", d, err, err)
			}
			for _, want := range tt.want {
				if !strings.Contains("\n"+err.Error(), "\n"+want) {
					t.Errorf("lacks %q", want)
				}
			}
			if len(faults) != len(tt.want) || t.Failed() {
				t.Errorf("%d faults, want %d:\n%v", len(faults), len(tt.want), err)
			}
		})
	}
}

// A file of another kind does not fill the screen.
func TestParseManyFaults(t *testing.T) {
	var text strings.Builder
	for i := range 300 {
		fmt.Fprintf(&text, "key%d: 1\n", i)
	}
	_, err := Parse([]byte(text.String()), "x")
	var faults tree.Faults
	if !errors.As(err, &faults) || len(faults) != tree.MaxFaults+1 || !strings.Contains(faults[tree.MaxFaults].Problem, "more faults") {
		t.Errorf("%d faults: %v", len(faults), err)
	}
}

// All drills that come with the program can be read, are named as their files, and undo what they do.
func TestBuiltin(t *testing.T) {
	var names []string
	kinds := map[Kind]bool{}
	for _, d := range Builtin() {
		names = append(names, d.Name)
		if err := d.Validate(); err != nil {
			t.Errorf("%s: %v", d.Name, err)
		}
		if text, ok := Text(d.Name); !ok || !strings.Contains(text, "name: "+d.Name+"\n") {
			t.Errorf("%s has no text: %q", d.Name, text)
		}
		if d.Needs == (Needs{}) || d.Expect.Outage.Worst == 0 || d.Abort.Outage <= d.Expect.Outage.Worst || d.Abort.Unplaced == 0 {
			t.Errorf("%s: needs %+v, expects %+v, aborts %+v", d.Name, d.Needs, d.Expect, d.Abort)
		}
		var waits time.Duration
		for _, s := range d.Steps {
			kinds[s.Fault] = true
			waits += s.Wait
		}
		if waits > 12*time.Second {
			t.Errorf("%s waits for %s", d.Name, waits)
		}
	}
	want := []string{"director-crash", "director-hang", "disk-full", "drain", "host-loss", "link-cut", "nms-empty", "nms-outage", "partition", "rolling-upgrade", "terminator-crash", "terminator-hang", "vip-move"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
	for _, k := range Kinds() {
		if !kinds[Kind(k)] {
			t.Errorf("no drill makes %s", k)
		}
	}
	if _, ok := Text("../builtin"); ok {
		t.Error("there is a drill ../builtin")
	}
}

// FuzzParse: no panic; a drill that is right, or Faults that have words.
func FuzzParse(f *testing.F) {
	for _, d := range Builtin() {
		text, _ := Text(d.Name)
		f.Add([]byte(text))
	}
	for _, s := range []string{"a: &b [*b]", "? [a]\n: b", "<<: {name: 1}", "steps:\n\t- b", "---\n---\n", "!!str a", "what: |\n  b", "{", "- - - -", "\x00", "name: 'b", "steps: [{wait: 1e99s}, null]", "expect: {lost: .nan}", "needs: {tunnels: 18446744073709551615}"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := Parse(data, "x")
		if err == nil {
			if err := d.Validate(); err != nil {
				t.Fatalf("was parsed, and %v", err)
			}
			return
		}
		var faults tree.Faults
		if !errors.As(err, &faults) || len(faults) == 0 {
			t.Fatalf("%T %v, want Faults", err, err)
		}
		for _, f := range faults {
			if f.Problem == "" || f.Line < 0 {
				t.Fatalf("%+v", f)
			}
		}
	})
}
