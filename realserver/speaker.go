package realserver

import (
	"context"
	"slices"
	"time"

	"tunneldirector/director/agent"
)

const (
	statusEvery = time.Second     // a status, whether it changed or not: what a director makes of lost probes rests on it
	tellEvery   = 3 * time.Second // something, within a third of what the director waits for
)

// A speaker tells one director, over one connection, what it does not know. One goroutine owns it.
type speaker struct {
	s    *stream
	c    *agent.Conn
	told map[*instance]*told
	last time.Time // when something was sent last
	ask  time.Time // when to begin anew, for real servers that were refused; zero: never
}

// told is what the director was told of a real server.
type told struct {
	seq    uint64
	status agent.Status
	at     time.Time // of status
}

func newSpeaker(s *stream, c *agent.Conn, w *agent.Welcome) *speaker {
	p := &speaker{s: s, c: c, told: map[*instance]*told{}}
	for _, in := range s.a.instances {
		if _, refused := w.Refused[in.Name]; refused {
			p.ask = time.Now().Add(askAgain)
			continue
		}
		p.told[in] = &told{seq: w.Known[in.Name]}
	}
	return p
}

func (p *speaker) speak(ctx context.Context) error {
	tick := time.NewTicker(statusEvery)
	defer tick.Stop()
	for poked := false; ; {
		if err := p.say(time.Now(), poked); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-p.s.wake:
			poked = true
		case <-tick.C:
			poked = false
		}
		if !p.ask.IsZero() && !time.Now().Before(p.ask) {
			return errAskAgain
		}
	}
}

// say sends what is new: health first, since that is what cannot wait.
func (p *speaker) say(now time.Time, poked bool) error {
	for _, in := range p.s.a.instances {
		if t := p.told[in]; t != nil {
			if err := p.status(now, in, t, poked); err != nil {
				return err
			}
		}
	}
	for _, in := range p.s.a.instances {
		if t := p.told[in]; t != nil {
			reports, seq := in.book.reports(in.Name, t.seq)
			for i := range reports {
				if err := p.send(agent.Message{Report: &reports[i]}); err != nil {
					return err
				}
			}
			t.seq = seq
		}
	}
	for _, x := range p.s.takeProgress() {
		if err := p.send(agent.Message{Progress: &x}); err != nil {
			return err
		}
	}
	if time.Since(p.last) >= tellEvery {
		return p.send(agent.Message{})
	}
	return nil
}

// status sends a real server's, at once if what matters for pins changed, and each second anyway.
func (p *speaker) status(now time.Time, in *instance, t *told, poked bool) error {
	s := in.status()
	switch {
	case t.at.IsZero(), now.Sub(t.at) > statusEvery*9/10: // ticks are not on the dot
	case poked && urgent(&s, &t.status):
	default:
		return nil
	}
	same := !t.at.IsZero() && slices.Equal(s.Found, t.status.Found)
	t.status, t.at = s, now
	if same && len(s.Found) > 0 { // tens of kilobytes, which change once a minute at the most
		s.Found, s.FoundAsBefore = nil, true
	}
	return p.send(agent.Message{Status: &s})
}

func (p *speaker) send(m agent.Message) error {
	p.last = time.Now()
	return p.c.Send(m)
}

// urgent tells whether two statuses differ in what pins are placed by.
func urgent(a, b *agent.Status) bool {
	x, y := stateOf(a), stateOf(b)
	x.Tunnels, y.Tunnels = 0, 0
	return x != y
}
