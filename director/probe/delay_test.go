package probe

import (
	"testing"
	"time"
)

func TestDelay(t *testing.T) {
	const interval = 200 * time.Millisecond
	now := time.Unix(1_800_000_000, 0)
	var d delay
	// feed gives round-trip times for a while, and tells when slow changed.
	feed := func(k kind, rtt, during time.Duration) (changed time.Duration) {
		was := d.slow
		for from := now; now.Sub(from) < during; now = now.Add(interval) {
			d.add(k, rtt, now)
			if d.slow != was && changed == 0 {
				changed = now.Sub(from)
			}
		}
		return changed
	}
	want := func(what string, slow bool, got, least, most time.Duration) {
		t.Helper()
		if d.slow != slow || got < least || got > most {
			t.Errorf("%s: slow %v, changed after %v; want %v after %v to %v", what, d.slow, got, slow, least, most)
		}
	}
	const ms = time.Millisecond
	want("idle", false, feed(askAgent, ms, time.Minute), 0, 0)
	want("a little more", false, feed(askAgent, 21*ms, time.Minute), 0, 0)
	want("a peak", false, feed(askAgent, 90*ms, 2*time.Second), 0, 0)
	want("idle again", false, feed(askAgent, ms, time.Minute), 0, 0)
	want("saturated", true, feed(askAgent, 22*ms, 10*time.Second), slowAfter, slowAfter+2*time.Second)
	want("a moment's rest", true, feed(askAgent, ms, 3*time.Second), 0, 0)
	want("still saturated", true, feed(askAgent, 40*ms, 10*time.Second), 0, 0)
	want("relieved", false, feed(askAgent, 2*ms, 10*time.Second), fastAfter, fastAfter+2*time.Second)
	want("saturated for long", true, feed(askAgent, 30*ms, 5*time.Minute), slowAfter, slowAfter+2*time.Second)
	want("a longer way from now on", false, feed(askAgent, 30*ms, 20*time.Minute), time.Minute, 10*time.Minute)
	if d.idle() != 30*ms {
		t.Errorf("idle %v", d.idle())
	}
	want("eight times a long way", false, feed(askAgent, 230*ms, time.Minute), 0, 0)
	want("more than that", true, feed(askAgent, 250*ms, 10*time.Second), slowAfter, slowAfter+2*time.Second)
	// Another kind of question has another idle time.
	feed(askNeighbour, ms, 2*time.Second)
	if d.kind != askAgent {
		t.Error("a few answers of another kind are measured")
	}
	want("the agent is gone", false, feed(askNeighbour, ms, 10*time.Second), 0, 2*time.Second)
	if d.kind != askNeighbour || d.idle() != ms {
		t.Errorf("kind %v, idle %v", d.kind, d.idle())
	}
	feed(askNeighbour, ms, time.Second)
	now = now.Add(time.Hour)
	feed(askNeighbour, 5*ms, time.Second)
	if d.idle() != 5*ms {
		t.Errorf("idle %v, of an hour ago", d.idle())
	}
}
