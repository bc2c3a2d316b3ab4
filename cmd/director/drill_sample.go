package main

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"tunneldirector/cmd/console"
	"tunneldirector/director/api"
	"tunneldirector/director/drill"
)

const (
	maxTried   = 200 // tunnels that are tried for whether something behind them answers
	tryFor     = 1500 * time.Millisecond
	tryEvery   = 300 * time.Millisecond
	sampleMore = 3 // times as many as the sample has are tried
)

// openLive finds the tunnels that packets can be sent through from here.
func openLive(ctx context.Context, t *talk, d *drill.Drill) (*liveWorld, []string, error) {
	w := &liveWorld{client: t.client, behind: map[string]netip.Addr{}, own: map[string]string{}}
	given, err := probesOf(t.list("probe"))
	if err != nil {
		return nil, nil, err
	}
	tried := given
	if len(given) == 0 {
		if tried, err = w.candidates(ctx, min(maxTried, sampleMore*d.Sample.Tunnels)); err != nil {
			return nil, nil, err
		}
	}
	w.behind = answering(ctx, tried)
	var wanted, silent []string
	for id, a := range given {
		if wanted = append(wanted, id); !w.behind[id].IsValid() {
			silent = append(silent, fmt.Sprintf("%s at %s", id, a))
		}
	}
	switch {
	case len(silent) > 0:
		return nil, nil, notMet("behind %s nothing answers ICMP echo from this machine", strings.Join(silent, ", "))
	case len(w.behind) == 0:
		return nil, nil, notMet("of %s that are up, nothing behind any answers ICMP echo from this machine: say what does, --probe TUNNEL=ADDRESS, or run it where the target hosts are, with --server", console.Some(len(tried), "tunnel"))
	}
	return w, wanted, nil
}

// notMet is of what a drill needs and does not have.
func notMet(format string, args ...any) error {
	return console.Coded(console.ExitRefused, fmt.Errorf("%w: %w", drill.ErrNotReady, fmt.Errorf(format, args...)))
}

// probesOf reads TUNNEL=ADDRESS.
func probesOf(list []string) (map[string]netip.Addr, error) {
	out := map[string]netip.Addr{}
	for _, s := range list {
		id, address, ok := strings.Cut(s, "=")
		a, err := netip.ParseAddr(address)
		if !ok || id == "" || err != nil {
			return nil, console.Usage("--probe %s: is not TUNNEL=ADDRESS", s)
		}
		out[id] = a
	}
	return out, nil
}

// candidates are tunnels that are up, of each real server as many, and the first address of the first subnet behind each.
func (w *liveWorld) candidates(ctx context.Context, most int) (map[string]netip.Addr, error) {
	servers, err := w.client.RealServers(ctx)
	if err != nil {
		return nil, err
	}
	out := map[string]netip.Addr{}
	for _, rs := range servers {
		if rs.State != "alive" {
			continue
		}
		n := 0
		for t, err := range w.client.Tunnels(ctx, api.TunnelFilter{RealServer: rs.Name, Limit: maxTried}) {
			if err != nil {
				return nil, err
			}
			if a := firstHost(t.Subnets); t.Up && a.IsValid() {
				out[t.ID] = a
				n++
			}
			if n >= max(1, most/len(servers)) {
				break
			}
		}
	}
	if len(out) == 0 {
		return nil, notMet("no tunnel is up that has subnets behind it")
	}
	return out, nil
}

// firstHost is the first address of the first subnet that a host may have.
func firstHost(subnets []string) netip.Addr {
	if len(subnets) == 0 {
		return netip.Addr{}
	}
	p, err := netip.ParsePrefix(subnets[0])
	if err != nil {
		return netip.Addr{}
	}
	a := p.Masked().Addr()
	if n := a.BitLen() - p.Bits(); n > 1 || a.Is6() && n > 0 { // the network's own, or the routers'
		a = a.Next()
	}
	return a
}

// answering are those from which something comes back.
func answering(ctx context.Context, tried map[string]netip.Addr) map[string]netip.Addr {
	tries := map[string]*pinging{}
	for id, a := range tried {
		tries[id] = ping(ctx, a, tryEvery)
	}
	ctx, cancel := context.WithTimeout(ctx, tryFor)
	defer cancel()
	for _, g := range tries { // until all have, or the time is over
		for ctx.Err() == nil && !g.answered() {
			select {
			case <-time.After(tryEvery / 10):
			case <-ctx.Done():
			}
		}
	}
	out := map[string]netip.Addr{}
	for id, g := range tries {
		if _, err := g.Stop(); err == nil && g.answered() {
			out[id] = tried[id]
		}
	}
	return out
}
