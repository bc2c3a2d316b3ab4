package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tunneldirector/integration/lab"
)

// interval is how often everybody sends.
const interval = 20 * time.Millisecond

// A traffic is every site and the target pinging each other through the sites' tunnels.
type traffic struct {
	stop  context.CancelFunc
	pings map[*lab.Site][]*lab.Pinger // from the site, and from the target to the site
}

// begin starts it; it goes on until end. IPv4 and IPv6 inside take turns among the sites.
func (s *show) begin(ctx context.Context) (*traffic, error) {
	ctx, cancel := context.WithCancel(ctx)
	t := &traffic{stop: cancel, pings: map[*lab.Site][]*lab.Pinger{}}
	for i, site := range s.lab.Sites {
		family := i / 2 % len(site.Inside)
		inside, target := site.Inside[family], s.lab.Target.Inner.Addrs[family]
		out, err := s.lab.StartPing(ctx, site.NS, inside, target, interval, 0)
		if err != nil {
			cancel()
			return nil, err
		}
		in, err := s.lab.StartPing(ctx, s.lab.Target.Namespace, target, inside, interval, 0)
		if err != nil {
			cancel()
			return nil, err
		}
		t.pings[site] = []*lab.Pinger{out, in}
	}
	return t, nil
}

// end stops everybody and returns what became of each request: from the site, and from the target.
func (t *traffic) end() (map[*lab.Site][2][]lab.Echo, error) {
	t.stop()
	all := map[*lab.Site][2][]lab.Echo{}
	var errs []error
	for site, pings := range t.pings {
		var both [2][]lab.Echo
		for i, p := range pings {
			echoes, err := p.Stop()
			both[i], errs = echoes, append(errs, err)
		}
		all[site] = both
	}
	return all, errors.Join(errs...)
}

// tally counts requests and those nobody answered.
func tally(both [2][]lab.Echo) (sent, lost int) {
	for _, echoes := range both {
		sent += len(echoes)
		lost += lab.CountLost(echoes)
	}
	return sent, lost
}

// when tells which of the requests were lost, by their distance from an event.
func when(both [2][]lab.Echo, event time.Time) string {
	var first, last time.Time
	var lost [2]int
	for i, echoes := range both {
		lost[i] = lab.CountLost(echoes)
		for _, e := range echoes {
			if !e.Lost() {
				continue
			}
			if first.IsZero() || e.Sent.Before(first) {
				first = e.Sent
			}
			if e.Sent.After(last) {
				last = e.Sent
			}
		}
	}
	return fmt.Sprintf("%d that the site sent, %d that the target sent, from %s to %s after it", lost[0], lost[1],
		first.Sub(event).Round(time.Millisecond), last.Sub(event).Round(time.Millisecond))
}

// rest lets so much time pass, or ctx end.
func rest(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
