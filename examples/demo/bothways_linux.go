package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tunneldirector/integration/lab"
)

// bothWays pings both ways and counts at the real servers.
func (s *show) bothWays(ctx context.Context) (err error) {
	defer s.phase("ping both ways, count at the real servers")()
	s.r.BothWaysOf = len(s.lab.Sites)
	s.r.BothWays, err = s.countBothWays(ctx, s.report)
	s.say("%d of %d tunnels: each direction went through the real server that the director names, and through no other", s.r.BothWays, s.r.BothWaysOf)
	return err
}

// report prints a site's row.
func (s *show) report(site *lab.Site, rs *lab.RealServer, c lab.Counts, rtt time.Duration) {
	s.say("  %s at %-15s -> %s  in %3d  out %3d packets  rtt %s", site.Name, site.Endpoint, rs.Name, c.InnerIn, c.InnerOut, rtt.Round(time.Microsecond))
}

// countBothWays is for how many sites both directions used the one real server that the director names, and no other,
// while the site and the target pinged each other. Why it is not so for a site is a failure.
func (s *show) countBothWays(ctx context.Context, tell func(*lab.Site, *lab.RealServer, lab.Counts, time.Duration)) (int, error) {
	before := s.counts()
	t, err := s.begin(ctx)
	if err != nil {
		return 0, err
	}
	rested := rest(ctx, 10*interval)
	echoes, err := t.end()
	if err := errors.Join(rested, err); err != nil {
		return 0, err
	}
	good := 0
	for _, site := range s.lab.Sites {
		rs, _, err := s.d.Placed(ctx, site)
		if err != nil {
			return good, err
		}
		both := echoes[site]
		c := rs.Counts(site).Sub(before[rs][site])
		if err := s.judge(site, rs, both, before); err != nil {
			s.r.fail("%v", err)
			continue
		}
		good++
		if tell != nil {
			tell(site, rs, c, both[0][len(both[0])-1].RTT())
		}
	}
	return good, nil
}

// judge holds a site's pings against the counters.
func (s *show) judge(site *lab.Site, rs *lab.RealServer, both [2][]lab.Echo, before counted) error {
	sent, lost := tally(both)
	if lost > 0 || sent == 0 {
		return fmt.Errorf("%s: %d of %d pings were not answered", site.Name, lost, sent)
	}
	for _, other := range s.lab.RealServers {
		c := other.Counts(site).Sub(before[other][site])
		if other != rs && c != (lab.Counts{}) {
			return fmt.Errorf("%s is pinned to %s, but %s counted packets of it: %+v", site.Name, rs.Name, other.Name, c)
		}
		// Each ping, whoever sent it, is one packet each way.
		if n := uint64(sent); other == rs && (c.InnerIn != n || c.InnerOut != n || c.OuterIn < n || c.OuterOut < n) {
			return fmt.Errorf("%s is pinned to %s, which counted %+v, not %d packets each way", site.Name, rs.Name, c, n)
		}
	}
	return nil
}

type counted map[*lab.RealServer]map[*lab.Site]lab.Counts

// counts reads all counters of all real servers.
func (s *show) counts() counted {
	all := counted{}
	for _, rs := range s.lab.RealServers {
		all[rs] = map[*lab.Site]lab.Counts{}
		for _, site := range s.lab.Sites {
			all[rs][site] = rs.Counts(site)
		}
	}
	return all
}
