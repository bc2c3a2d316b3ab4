package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"tunneldirector/integration/lab"
)

// patience is how long a tunnel may take to work again: WireGuard's own 15 s, and as much again.
const patience = 30 * time.Second

// kill lets the real server with the most sites die under traffic.
func (s *show) kill(ctx context.Context) error {
	defer s.phase("kill a real server, wait for every tunnel of it")()
	victim, theirs, backups, err := s.victim(ctx)
	if err != nil {
		return err
	}
	s.r.Killed = victim.Name
	s.say("killing %s, which has %d of the sites, while everybody pings everybody every %s", victim.Name, len(theirs), interval)
	watching, stop := context.WithCancel(ctx)
	defer stop()
	noticed := s.watchDeath(watching, victim.Name)
	t, err := s.begin(ctx)
	if err != nil {
		return err
	}
	err = rest(ctx, 10*interval)
	died := time.Now()
	err = errors.Join(err, s.lab.KillRealServer(victim.Index))
	if err == nil {
		err = s.awaitNotice(ctx, noticed, died)
	}
	if err == nil {
		err = s.awaitReturn(ctx, t, theirs)
	}
	echoes, terr := t.end()
	if err := errors.Join(err, terr); err != nil {
		return err
	}
	s.judgeDeath(echoes, theirs, died)
	if err := s.judgeBackups(ctx, theirs, backups); err != nil {
		return err
	}
	s.r.BothWaysBackup, err = s.countBothWays(ctx, nil)
	s.say("%d of %d tunnels have one real server both ways again", s.r.BothWaysBackup, len(s.lab.Sites))
	return err
}

// victim is the real server with the most sites, those, and their backups as the director says.
func (s *show) victim(ctx context.Context) (*lab.RealServer, map[*lab.Site]bool, map[*lab.Site]*lab.RealServer, error) {
	at := map[*lab.RealServer]map[*lab.Site]bool{}
	backups := map[*lab.Site]*lab.RealServer{}
	var most *lab.RealServer
	for _, site := range s.lab.Sites {
		rs, backup, err := s.d.Placed(ctx, site)
		if err != nil {
			return nil, nil, nil, err
		}
		if at[rs] == nil {
			at[rs] = map[*lab.Site]bool{}
		}
		at[rs][site], backups[site] = true, backup
		if most == nil || len(at[rs]) > len(at[most]) {
			most = rs
		}
	}
	return most, at[most], backups, nil
}

// watchDeath tells when the director says that a real server is dead. By then the data plane sends its tunnels to their
// backups.
func (s *show) watchDeath(ctx context.Context, name string) <-chan time.Time {
	noticed := make(chan time.Time, 1)
	go func() {
		for e, err := range s.d.Client.Watch(ctx, "") {
			if err != nil {
				return
			}
			if e.Kind == "real-server" && e.Object == name && strings.HasPrefix(e.Why, "dead") {
				noticed <- time.Now()
				return
			}
		}
	}()
	return noticed
}

func (s *show) awaitNotice(ctx context.Context, noticed <-chan time.Time, died time.Time) error {
	select {
	case at := <-noticed:
		s.r.DetectedMS = at.Sub(died).Milliseconds()
		s.say("the director noticed and failed all its tunnels over after %d ms", s.r.DetectedMS)
		return nil
	case <-time.After(5 * time.Second):
		return fmt.Errorf("the director did not notice within 5 s that %s is dead", s.r.Killed)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// awaitReturn waits until each of the sites got an answer, both ways, to what was sent after the death.
func (s *show) awaitReturn(ctx context.Context, t *traffic, theirs map[*lab.Site]bool) error {
	last := map[*lab.Pinger]uint64{}
	for site := range theirs {
		for _, p := range t.pings[site] {
			last[p] = p.Received()
		}
	}
	if err := rest(ctx, time.Second); err != nil { // answers that were on their way are in
		return err
	}
	for p := range last {
		last[p] = p.Received()
	}
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		waiting := 0
		for p, n := range last {
			if p.Received() <= n {
				waiting++
			}
		}
		if waiting == 0 {
			return rest(ctx, 25*interval)
		}
		if err := rest(ctx, interval); err != nil {
			return err
		}
	}
	return nil // judgeDeath says who is missing
}

// judgeDeath holds every request against the promise.
func (s *show) judgeDeath(echoes map[*lab.Site][2][]lab.Echo, theirs map[*lab.Site]bool, died time.Time) {
	for _, site := range s.lab.Sites {
		both := echoes[site]
		if !theirs[site] {
			sent, lost := tally(both)
			s.r.OthersSent += sent
			s.r.OthersLost += lost
			if lost > 0 {
				s.r.fail("while %s died, %d of %d packets of %s, which is not on it, were lost: %s", s.r.Killed, lost, sent, site.Name, when(both, died))
			}
			continue
		}
		out, outOK := lab.Restored(both[0], died)
		in, inOK := lab.Restored(both[1], died)
		if !outOK || !inOK {
			s.r.fail("%s did not work again within %s after the death of %s (site to target: %t, target to site: %t)",
				site.Name, patience, s.r.Killed, outOK, inOK)
			continue
		}
		s.r.Restored[site.Name] = max(out, in).Milliseconds()
		s.say("  %s works again after %s (site to target %s, target to site %s)", site.Name, max(out, in).Round(time.Millisecond),
			out.Round(time.Millisecond), in.Round(time.Millisecond))
	}
	s.say("the other %d sites lost %d of %d packets", len(s.lab.Sites)-len(theirs), s.r.OthersLost, s.r.OthersSent)
}

// judgeBackups: each of the sites is where its backup was, and nobody else moved.
func (s *show) judgeBackups(ctx context.Context, theirs map[*lab.Site]bool, backups map[*lab.Site]*lab.RealServer) error {
	for site := range theirs {
		rs, _, err := s.d.Placed(ctx, site)
		if err != nil {
			return err
		}
		if rs != backups[site] {
			s.r.fail("%s is on %s after the death; its backup was %v", site.Name, rs.Name, backups[site])
		}
	}
	return nil
}
