package drill

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// keptResult is a result as it is on disk, with something in each field.
func keptResult(drill string, n int) *Result {
	began := noon.Add(time.Duration(n) * time.Minute)
	d := Builtin()[0]
	d.Name = drill
	return &Result{
		ID: drill + "-" + began.Format("20060102T150405Z"), Drill: *d, World: "lab", Began: began, Ended: began.Add(time.Minute), Aborted: "x",
		Failures: []Failure{{What: "y", Tunnel: "site-1", At: new(ms(1))}}, Faults: []Injected{{Fault: Fault{ID: "i", Kind: HostLoss, Target: "rs1", For: time.Second}, At: ms(1), Undone: new(ms(2)), Error: "e"}},
		Outage: Outage{time.Millisecond, time.Second, time.Minute}, Sent: 1000, Lost: 25, Moved: 3, Wrongly: 1,
		Tunnels: []Outcome{{Name: "site-1", Outage: 1500 * time.Millisecond, At: ms(1), Sent: 2, Lost: 1, From: "rs1", To: "rs2", Moved: true, Wrong: true}},
		Phases:  Phases{612 * time.Millisecond, time.Second, -1, -1}, TimeLine: []Mark{{-time.Second, "d1", "z"}},
	}
}

// What is kept comes back as it was.
func TestStore(t *testing.T) {
	s := Store{filepath.Join(t.TempDir(), "a", "drills")}
	if list, err := s.List(); err != nil || len(list) > 0 {
		t.Fatalf("of no directory: %v, %v", list, err)
	}
	for i, name := range []string{"drain", "drain-more", "drain", "drain"} {
		r := keptResult(name, i)
		if i == 2 {
			r.World = "live"
		}
		if err := s.Save(r); err != nil {
			t.Fatal(err)
		}
	}
	last := keptResult("drain", 3)
	got, err := s.Load(last.ID)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(last, got); diff != "" {
		t.Error(diff)
	}
	list, err := s.List()
	if err != nil || len(list) != 4 || list[0] != last.Summary() || list[3].ID != keptResult("drain", 0).ID {
		t.Errorf("%+v, %v", list, err)
	}
	before, err := s.Last(last)
	if err != nil || before == nil || before.ID != keptResult("drain", 0).ID {
		t.Errorf("the one before in the same world: %+v, %v", before, err)
	}
	if first, err := s.Last(before); first != nil || err != nil {
		t.Errorf("before the first: %+v, %v", first, err)
	}
	info, err := os.Stat(s.path(last.ID))
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// What cannot be read is told, and does not hide the rest.
func TestStoreUnreadable(t *testing.T) {
	s := Store{t.TempDir()}
	for i := range 3 {
		if err := s.Save(keptResult("drain", i)); err != nil {
			t.Fatal(err)
		}
	}
	torn, other := keptResult("drain", 1).ID, keptResult("drain", 9).ID
	data, err := os.ReadFile(s.path(torn))
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(s.Dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(torn+".json", string(data[:100]))
	write(other+".json", string(data))
	write("notes.txt", "mine")
	write("notes.json", "mine")
	list, err := s.List()
	if len(list) != 2 || err == nil || !strings.Contains(err.Error(), torn) || !strings.Contains(err.Error(), "the file holds \""+torn) || strings.Contains(err.Error(), "notes") {
		t.Errorf("%d, %v", len(list), err)
	}
	if last, err := s.Last(keptResult("drain", 2)); err != nil || last == nil || last.ID != keptResult("drain", 0).ID {
		t.Errorf("%+v, %v", last, err)
	}
	for _, id := range []string{"drain", "../drain-20260102T120000Z", keptResult("drain", 7).ID} {
		if _, err := s.Load(id); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", id, err)
		}
	}
	if err := s.Save(&Result{ID: "../x"}); err == nil {
		t.Error("kept outside")
	}
	full := keptResult("drain", 5)
	if err := os.Mkdir(s.path(full.ID), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.Save(full); err == nil {
		t.Error("kept over a directory")
	}
	if left, _ := filepath.Glob(filepath.Join(s.Dir, ".result-*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	blocked := Store{filepath.Join(s.Dir, "notes.txt")}
	if err := blocked.Save(keptResult("drain", 0)); err == nil || !strings.HasPrefix(err.Error(), "keep result drain-") {
		t.Errorf("%v", err)
	}
	if _, err := blocked.List(); err == nil {
		t.Error("a file is listed")
	}
}

// The newest hundred are kept, and nothing else is left behind.
func TestStorePrunes(t *testing.T) {
	s := Store{t.TempDir()}
	for i := range kept + 3 {
		if err := s.Save(keptResult([]string{"drain", "host-loss"}[i%2], i)); err != nil {
			t.Fatal(err)
		}
	}
	ids, err := s.ids()
	if err != nil || len(ids) != kept || ids[0] != keptResult("drain", kept+2).ID || ids[kept-1] != keptResult("host-loss", 3).ID {
		t.Errorf("%d: %q to %q, %v", len(ids), ids[0], ids[len(ids)-1], err)
	}
	if entries, err := os.ReadDir(s.Dir); err != nil || len(entries) != kept {
		t.Errorf("%d files, %v", len(entries), err)
	}
}

// Whoever encodes: durations are text.
func TestJSON(t *testing.T) {
	r := keptResult("drain", 0)
	for _, v := range []any{r, *r, r.Summary(), r.Drill, &r.Drill, Diff(r, r)} {
		data, err := json.Marshal(v)
		if err != nil || !strings.Contains(string(data), `s"`) || strings.Contains(string(data), "000000") {
			t.Errorf("%T: %v, %s", v, err, data)
		}
	}
	var back Result
	data, _ := json.Marshal(r)
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(*r, back); diff != "" {
		t.Error(diff)
	}
}

// Two results side by side; what did not come is absent.
func TestDiff(t *testing.T) {
	a, b := keptResult("drain", 0), keptResult("drain", 1)
	b.Outage.Worst, b.Lost, b.Sent, b.Phases.Reestablished, b.Passed = time.Second, 0, 0, 2*time.Second, true
	c := Diff(a, b)
	if c.A != a.Summary() || c.B != b.Summary() {
		t.Errorf("%+v, %+v", c.A, c.B)
	}
	var got []string
	show := func(v *float64) string {
		if v == nil {
			return "-"
		}
		return fmt.Sprint(*v)
	}
	for _, f := range c.Figures {
		got = append(got, fmt.Sprintf("%s %s %s %s", f.Name, show(f.A), show(f.B), f.Unit))
	}
	want := []string{"outage median 0.001 0.001 s", "outage p99 1 1 s", "outage worst 60 1 s", "lost 2.5 0 %", "moved 3 3 tunnels", "wrongly moved 1 1 tunnels", "detected 0.612 0.612 s", "decided 1 1 s", "data plane - - s", "re-established - 2 s"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
