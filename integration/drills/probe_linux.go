package drills

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"tunneldirector/director/api"
	"tunneldirector/director/drill"
	"tunneldirector/integration/lab"
)

// Probe sends echo requests from the target to an address behind a site: of the inner IPv4 for one half of the sites that dial the same
// VIP, of IPv6 for the other.
func (w *World) Probe(ctx context.Context, tunnel string, every time.Duration) (drill.Probing, error) {
	s := w.site(tunnel)
	if s == nil {
		return nil, fmt.Errorf("probe tunnel %s: no site of the lab has it", tunnel)
	}
	family := (s.Index - 1) / len(w.lab.VIPs) % len(s.Inside)
	p, err := w.lab.StartPing(context.WithoutCancel(ctx), w.lab.Target.Namespace, w.lab.Target.Inner.Addrs[family], s.Inside[family], every, 0)
	if err != nil {
		return nil, fmt.Errorf("probe tunnel %s: %w", tunnel, err)
	}
	return probing{p}, nil
}

// site is the one whose tunnel this is; nil: none.
func (w *World) site(tunnel string) *lab.Site {
	i := slices.IndexFunc(w.lab.Sites, func(s *lab.Site) bool { return s.Name == tunnel })
	if i < 0 {
		return nil
	}
	return w.lab.Sites[i]
}

type probing struct{ *lab.Pinger }

func (p probing) Stop() ([]drill.Packet, error) {
	echoes, err := p.Pinger.Stop()
	packets := make([]drill.Packet, len(echoes))
	for i, e := range echoes {
		packets[i] = drill.Packet(e)
	}
	return packets, err
}

// Events are those of all directors that answer.
func (w *World) Events(ctx context.Context, since time.Time) ([]drill.Event, error) {
	var errs []error
	var all []drill.Event
	for _, d := range w.directors {
		list, err := events(ctx, d, since)
		errs, all = append(errs, err), append(all, list...)
	}
	slices.SortStableFunc(all, func(a, b drill.Event) int { return a.Time.Compare(b.Time) })
	if len(all) > 0 {
		return all, nil
	}
	return nil, errors.Join(errs...)
}

func events(ctx context.Context, d *director, since time.Time) (list []drill.Event, err error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	for line, err := range d.Client.Events(ctx, api.EventQuery{Since: since, Limit: 2000}, false) {
		if err != nil {
			return list, fmt.Errorf("ask %s what happened: %w", d.On().Title, err)
		}
		if e := line.Event; e != nil {
			list = append(list, drill.Event{Time: e.Time, By: d.On().Title, Kind: e.Kind, Object: e.Object, From: e.From, To: e.To, Why: e.Why})
		}
	}
	return list, nil
}
