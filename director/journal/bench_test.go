package journal

import (
	"fmt"
	"testing"
	"time"

	"tunneldirector/director/api"
)

// What a push costs the loop: a step of 2,000 tunnels is 4,000 events.
func BenchmarkRecordPush(b *testing.B) {
	j := open(b, Options{Dir: b.TempDir()})
	var list []api.Event
	for i := range 2000 {
		id := fmt.Sprintf("site-%06d", i)
		list = append(list, api.Event{Time: time.Now(), Kind: "tunnel-put", Object: id, By: "nms"}, api.Event{Time: time.Now(), Kind: "placed", Object: id, To: "rs1", Why: "placed", By: "nms"})
	}
	for b.Loop() {
		j.Record(list)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(list)), "ns/event")
}

// What a full journal costs who asks for one object's events.
func BenchmarkReadObject(b *testing.B) {
	j := open(b, Options{Dir: b.TempDir()})
	const n = 100_000
	for i := range n {
		j.Record([]api.Event{{Time: time.Now(), Kind: fmt.Sprint("kind", i/9000), Object: fmt.Sprint("site-", i), From: "rs1", To: "rs2", Why: "failed-over", By: "nms"}})
		if i%1000 == 0 {
			j.flush(true)
		}
	}
	j.flush(true)
	b.SetBytes(j.files.size())
	for b.Loop() {
		if list, err := j.Read(b.Context(), api.EventQuery{Object: "site-77", Limit: 10}); err != nil || len(list.Events) != 1 {
			b.Fatal(list, err)
		}
	}
}
