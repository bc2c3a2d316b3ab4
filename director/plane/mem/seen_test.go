package mem

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"tunneldirector/director/plane"
)

func TestSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, start := rig(t), time.Now()
		send := func(src string, proto uint8) {
			if _, err := m.Forward(plane.Packet{Src: addr(src), Dst: addr("192.0.2.1"), Proto: proto, Hops: 64}); err != nil {
				t.Fatal(err)
			}
		}
		since := func(at time.Time) map[plane.EndpointKey]time.Duration {
			seen := map[plane.EndpointKey]time.Duration{}
			err := m.LastSeen(context.Background(), at, func(k plane.EndpointKey, at time.Time) bool {
				seen[k] = at.Sub(start)
				return true
			})
			if err != nil {
				t.Fatal(err)
			}
			return seen
		}
		send("203.0.113.1", 50)
		send("203.0.113.5", 50) // dropped: it came through no pin
		send("203.0.113.77", 47)
		time.Sleep(time.Minute)
		send("203.0.113.3", 50)
		first, second := pin("192.0.2.1", "203.0.113.1", 0), pin("192.0.2.1", "203.0.113.3", 0)
		if diff := cmp.Diff(map[plane.EndpointKey]time.Duration{first: 0, second: time.Minute}, since(start), addrs); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(map[plane.EndpointKey]time.Duration{second: time.Minute}, since(start.Add(time.Second)), addrs); diff != "" {
			t.Error(diff)
		}
		if at, err := m.Seen(first); err != nil || !at.Equal(start) {
			t.Errorf("Seen: %v, %v", at, err)
		}
		if at, err := m.Seen(pin("192.0.2.1", "203.0.113.5", 0)); err != nil || !at.IsZero() {
			t.Errorf("Seen of a pin never used: %v, %v", at, err)
		}
		if err := m.Apply(context.Background(), plane.Update{Entries: []plane.Entry{{Endpoint: first, Delete: true}}}); err != nil {
			t.Fatal(err)
		}
		if at, _ := m.Seen(first); !at.IsZero() {
			t.Errorf("a deleted pin was still seen at %v", at)
		}
	})
}
