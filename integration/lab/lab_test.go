package lab

import (
	"context"
	"log/slog"
	"os"
	"testing"
	"time"
)

// newLab builds a lab for a test, with a stand-in director.
func newLab(t *testing.T, o Options) (*Lab, *Standin) {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("a lab of network namespaces needs root")
		}
		t.Skip("a lab of network namespaces needs root")
	}
	o.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	l, err := New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	d, err := l.NewStandin()
	if err != nil {
		t.Fatal(err)
	}
	return l, d
}

// within is ctx of a test for so long.
func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// lost counts the requests that nobody answered.
func lost(echoes []Echo) int {
	n := 0
	for _, e := range echoes {
		if e.Lost() {
			n++
		}
	}
	return n
}

func TestBothWaysThroughThePinnedRealServer(t *testing.T) {
	l, d := newLab(t, Options{Sites: 4, SiteNamespaces: 3, IPv6: true})
	pinned := map[*Site]*RealServer{}
	for i, s := range l.Sites {
		pinned[s] = l.RealServers[i%len(l.RealServers)]
		if err := d.Pin(s, pinned[s]); err != nil {
			t.Fatal(err)
		}
	}
	ctx := within(t, 15*time.Second)
	if err := l.Establish(ctx); err != nil {
		t.Fatal(err)
	}
	for _, s := range l.Sites {
		before := map[*RealServer]Counts{}
		for _, r := range l.RealServers {
			before[r] = r.Counts(s)
		}
		const n, udp = 10, 5
		for family, inside := range s.Inside {
			target := l.Target.Inner.Addrs[family]
			for _, way := range []struct {
				name string
				echo func() ([]Echo, error)
			}{
				{"out", func() ([]Echo, error) { return l.Ping(ctx, s.NS, inside, target, 10*time.Millisecond, n) }},
				{"in", func() ([]Echo, error) { return l.Ping(ctx, l.Target.Namespace, target, inside, 10*time.Millisecond, n) }},
			} {
				echoes, err := way.echo()
				if err != nil || len(echoes) != n || lost(echoes) != 0 {
					t.Errorf("%s, ping %s, %s: %d of %d lost: %v", s.Name, way.name, inside, lost(echoes), len(echoes), err)
				}
			}
			if good, err := l.EchoUDP(ctx, s.NS, inside, target, udp, 1200); good != udp || err != nil {
				t.Errorf("%s, UDP out, %s: %d of %d came back: %v", s.Name, inside, good, udp, err)
			}
			if good, err := l.EchoUDP(ctx, l.Target.Namespace, target, inside, udp, 1200); good != udp || err != nil {
				t.Errorf("%s, UDP in, %s: %d of %d came back: %v", s.Name, inside, good, udp, err)
			}
		}
		want := uint64(2 * len(s.Inside) * (n + udp)) // each way a packet, for every request
		for _, r := range l.RealServers {
			got := r.Counts(s).Sub(before[r])
			if r != pinned[s] {
				if got != (Counts{}) {
					t.Errorf("%s: %s saw packets of it: %+v", s.Name, r.Name, got)
				}
				continue
			}
			if got.InnerIn != want || got.InnerOut != want || got.OuterIn < want || got.OuterOut < want {
				t.Errorf("%s at %s: got %+v, want %d packets inside each way", s.Name, r.Name, got, want)
			}
		}
	}
}
