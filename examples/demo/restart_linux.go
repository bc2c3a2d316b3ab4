package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tunneldirector/integration/lab"
)

// restarts ends the director's daemon and starts it again, under traffic: once asked to, once killed.
func (s *show) restarts(ctx context.Context) error {
	defer s.phase("restart the director twice under traffic")()
	before, err := s.placements(ctx)
	if err != nil {
		return err
	}
	for _, how := range []struct {
		name string
		end  func() error
	}{{"SIGTERM", s.d.Stop}, {"SIGKILL", s.d.Kill}} {
		if err := s.restart(ctx, how.name, how.end); err != nil {
			return err
		}
	}
	after, err := s.placements(ctx)
	if err != nil {
		return err
	}
	for site, rs := range before {
		if after[site] == rs {
			s.r.Unchanged++
		} else {
			s.r.fail("%s was on %s before the restarts and is on %s now", site.Name, rs.Name, after[site].Name)
		}
	}
	st, err := s.d.Client.Status(ctx)
	if err != nil {
		return err
	}
	if want := uint64(s.r.Pushed + len(s.lab.Sites)); st.Tunnels.Total != want || !st.Plane.InSync {
		s.r.fail("after the restarts the director knows %d of %d tunnels, the kernel holds what it should: %t", st.Tunnels.Total, want, st.Plane.InSync)
	}
	s.r.BothWaysAfter, err = s.countBothWays(ctx, nil)
	return err
}

func (s *show) restart(ctx context.Context, how string, end func() error) error {
	t, err := s.begin(ctx)
	if err != nil {
		return err
	}
	err = rest(ctx, 10*interval)
	ending := time.Now()
	if err == nil {
		err = end()
	}
	ended := time.Since(ending)
	if err == nil {
		err = rest(ctx, 25*interval) // nobody is there
	}
	began := time.Now()
	if err == nil {
		err = s.d.Start(ctx)
	}
	ready := time.Since(began)
	if err == nil {
		err = rest(ctx, 25*interval)
	}
	echoes, terr := t.end()
	if err := errors.Join(err, terr); err != nil {
		return fmt.Errorf("restart the director (%s): %w", how, err)
	}
	r := restart{How: how, EndMillis: ended.Milliseconds(), ReadyMillis: ready.Milliseconds()}
	for site, both := range echoes {
		sent, lost := tally(both)
		if lost > 0 {
			s.r.fail("restart by %s: %d of %d packets of %s were lost: %s", how, lost, sent, site.Name, when(both, ending))
		}
		r.Sent += sent
		r.Lost += lost
	}
	s.r.Restarts = append(s.r.Restarts, r)
	s.r.RestartSent += r.Sent
	s.r.RestartLost += r.Lost
	if r.Sent == 0 {
		s.r.fail("restart by %s: nothing was sent", how)
	}
	s.say("director ended by %s (after %d ms) and started again (ready after %d ms): %d of %d packets lost", how, r.EndMillis, r.ReadyMillis, r.Lost, r.Sent)
	return nil
}

// placements are where the director says the sites are.
func (s *show) placements(ctx context.Context) (map[*lab.Site]*lab.RealServer, error) {
	all := map[*lab.Site]*lab.RealServer{}
	for _, site := range s.lab.Sites {
		rs, _, err := s.d.Placed(ctx, site)
		if err != nil {
			return nil, err
		}
		all[site] = rs
	}
	return all, nil
}
