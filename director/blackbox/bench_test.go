package blackbox

import (
	"log/slog"
	"testing"
	"time"

	"tunneldirector/director/plane"
)

// full is a recorder with all that may be in memory. Its Run is the benchmark's.
func full(b *testing.B) *Recorder {
	r, err := Open(Options{Dir: b.TempDir(), Plane: &fakePlane{}, Log: slog.New(slog.DiscardHandler),
		Words: func(s plane.Sample) string { return "dropped (" + s.Reason.String() + "): no tunnel of 198.51.100.7" }})
	check(b, err)
	now := time.Now()
	for i := range keptOfReason {
		for _, reason := range quiet {
			r.take(plane.Sample{At: now.Add(time.Duration(i)), Interface: "eth0", Reason: reason, Length: 1500, Head: make([]byte, plane.SampleBytes)})
		}
	}
	return r
}

// What a sample costs while nothing is recorded.
func BenchmarkKeep(b *testing.B) {
	r := full(b)
	s := plane.Sample{At: time.Now(), Interface: "eth0", Reason: plane.DropUnknown, Length: 1500, Head: make([]byte, plane.SampleBytes)}
	b.ReportAllocs()
	for b.Loop() {
		r.take(s)
	}
}

// What a recording costs of a full memory, to its end: for so long no sample is taken, and nobody is answered.
func BenchmarkRecord(b *testing.B) {
	r := full(b)
	for b.Loop() {
		_, err := r.begin(Trigger{Kind: kindOperator, Object: "ann", Why: "bench"})
		check(b, err)
		r.end("")
	}
	b.SetBytes(r.files.list[0].Bytes)
}
