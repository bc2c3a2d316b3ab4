package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A result is what build/demo.json holds.
type result struct {
	Sites          int              `json:"sites"`
	BothWays       int              `json:"both_ways_same_rs"`    // tunnels whose two directions one real server carried, the one that the director names
	BothWaysOf     int              `json:"both_ways_same_rs_of"` // of so many
	Pushed         int              `json:"pushed"`
	PushSeconds    float64          `json:"push_seconds"`
	Restored       map[string]int64 `json:"restored_ms"` // from the death to the first answer, both ways, of the dead real server's sites
	RestartLost    int              `json:"restart_packets_lost"`
	RestartSent    int              `json:"restart_packets_sent"`
	Killed         string           `json:"killed"`
	DetectedMS     int64            `json:"detected_ms"`             // from the death to the event that says failed over
	OthersLost     int              `json:"others_lost"`             // packets of the other sites, while one real server died
	OthersSent     int              `json:"others_sent"`             //
	BothWaysBackup int              `json:"both_ways_after_death"`   // as both_ways_same_rs, of all sites, after the death
	BothWaysAfter  int              `json:"both_ways_after_restart"` // and again, after both restarts
	Unchanged      int              `json:"placements_unchanged_by_restart"`
	Restarts       []restart        `json:"restarts"`
	HostUnchanged  bool             `json:"host_unchanged"`
	Failed         []string         `json:"failed"` // promises that did not hold; empty: all did
	Director       string           `json:"director_version"`
	Kernel         string           `json:"kernel"`
	Plane          []string         `json:"plane"`
	Phases         []phase          `json:"phases"`
	Seconds        float64          `json:"seconds"`
}

type phase struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
}

// A restart is one end of the daemon under traffic, and its return.
type restart struct {
	How         string `json:"how"`
	EndMillis   int64  `json:"end_ms"`   // until the old process was gone
	ReadyMillis int64  `json:"ready_ms"` // from its start to ready, tables reconciled
	Sent        int    `json:"packets_sent"`
	Lost        int    `json:"packets_lost"`
}

func newResult(p plan) *result {
	r := &result{Sites: p.sites, Restored: map[string]int64{}, Failed: []string{}, Kernel: kernel()}
	return r
}

func kernel() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

// fail notes a promise that did not hold.
func (r *result) fail(format string, args ...any) {
	r.Failed = append(r.Failed, fmt.Sprintf(format, args...))
}

func (r *result) write(path string) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err == nil {
		err = os.MkdirAll(filepath.Dir(path), 0o755)
	}
	if err == nil {
		err = os.WriteFile(path, append(data, '\n'), 0o644)
	}
	if err != nil {
		return fmt.Errorf("write the results: %w", err)
	}
	return nil
}

// print is the summary.
func (r *result) print(w io.Writer, path string) {
	fmt.Fprintln(w)
	for _, f := range r.Failed {
		fmt.Fprintln(w, "NOT AS PROMISED:", f)
	}
	if len(r.Failed) == 0 {
		fmt.Fprintln(w, "ALL AS PROMISED")
	}
	fmt.Fprintf(w, `
  one real server both ways      %d of %d tunnels (after the death %d, after the restarts %d)
  pushed by HTTP, in use         %d tunnels in %.1f s
  death noticed, all failed over %d ms after %s died
  tunnels working again          %s
  lost by all others meanwhile   %d of %d packets
  restarts under traffic         %d of %d packets lost
  this machine                   %s

`, r.BothWays, r.BothWaysOf, r.BothWaysBackup, r.BothWaysAfter, r.Pushed, r.PushSeconds, r.DetectedMS, r.Killed,
		r.restoredWords(), r.OthersLost, r.OthersSent, r.RestartLost, r.RestartSent, r.hostWords())
	for _, p := range r.Phases {
		fmt.Fprintf(w, "  %6.1f s  %s\n", p.Seconds, p.Name)
	}
	fmt.Fprintf(w, "  %6.1f s  in all; director %s on Linux %s; results in %s\n", r.Seconds, r.Director, r.Kernel, path)
}

func (r *result) restoredWords() string {
	if len(r.Restored) == 0 {
		return "none was seen"
	}
	var ms []int64
	for _, v := range r.Restored {
		ms = append(ms, v)
	}
	d := func(ms int64) time.Duration { return time.Duration(ms) * time.Millisecond }
	return fmt.Sprintf("%d, after %s to %s (WireGuard itself waits 15 s before it shakes hands anew)", len(ms), d(slices.Min(ms)), d(slices.Max(ms)))
}

func (r *result) hostWords() string {
	if r.HostUnchanged {
		return "as it was before: links, namespaces, mounts, packet filter"
	}
	return strings.ToUpper("changed, see above")
}
