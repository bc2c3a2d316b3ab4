package lab

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"tunneldirector/integration/spaces"
)

// newLab builds a lab for a test.
func newLab(t *testing.T, o Options) *Lab {
	t.Helper()
	spaces.Root(t)
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
	return l
}

// newStandin is a stand-in director with all sites pinned to real servers in turn.
func newStandin(t *testing.T, l *Lab) (*Standin, map[*Site]*RealServer) {
	t.Helper()
	d, err := l.NewStandin()
	if err != nil {
		t.Fatal(err)
	}
	pinned := map[*Site]*RealServer{}
	for i, s := range l.Sites {
		pinned[s] = l.RealServers[i%len(l.RealServers)]
		if err := d.Pin(s, pinned[s]); err != nil {
			t.Fatal(err)
		}
	}
	return d, pinned
}

// within is ctx of a test for so long.
func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestBothWaysThroughThePinnedRealServer(t *testing.T) {
	t.Parallel()
	l := newLab(t, Options{Sites: 4, SiteNamespaces: 3, IPv6: true})
	_, pinned := newStandin(t, l)
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
				if err != nil || len(echoes) != n || CountLost(echoes) != 0 {
					t.Errorf("%s, ping %s, %s: %d of %d lost: %v", s.Name, way.name, inside, CountLost(echoes), len(echoes), err)
				}
			}
			if good, err := l.EchoUDP(ctx, s.NS, inside, target, udp, 1200); good != udp || err != nil {
				t.Errorf("%s, UDP out, %s: %d of %d came back: %v", s.Name, inside, good, udp, err)
			}
			if good, err := l.EchoUDP(ctx, l.Target.Namespace, target, inside, udp, 1200); good != udp || err != nil {
				t.Errorf("%s, UDP in, %s: %d of %d came back: %v", s.Name, inside, good, udp, err)
			}
		}
		counted := map[*RealServer]Counts{}
		for _, r := range l.RealServers {
			counted[r] = r.Counts(s).Sub(before[r])
		}
		if _, err := l.TransferTCP(ctx, s.NS, s.Inside[0], l.Target.Inner.Addrs[0], 100_000); err != nil {
			t.Errorf("%s, TCP out: %v", s.Name, err)
		}
		if _, err := l.TransferTCP(ctx, l.Target.Namespace, l.Target.Inner.Addrs[0], s.Inside[0], 100_000); err != nil {
			t.Errorf("%s, TCP in: %v", s.Name, err)
		}
		want := uint64(2 * len(s.Inside) * (n + udp)) // each way a packet, for every request
		for _, r := range l.RealServers {
			got := counted[r]
			if r != pinned[s] {
				if all := r.Counts(s).Sub(before[r]); all != (Counts{}) {
					t.Errorf("%s: %s saw packets of it: %+v", s.Name, r.Name, all)
				}
				continue
			}
			if got.InnerIn != want || got.InnerOut != want || got.OuterIn < want || got.OuterOut < want {
				t.Errorf("%s at %s: got %+v, want %d packets inside each way", s.Name, r.Name, got, want)
			}
		}
	}
}
