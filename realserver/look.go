package realserver

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"tunneldirector/director/agent"
	"tunneldirector/realserver/terminator"
)

const (
	// LookLimit is how long the software may take to say what is established.
	LookLimit = 2 * time.Second
	// lookAgain is the pause between looks at software that does not work.
	lookAgain = 100 * time.Millisecond
	// lookSoon gathers the changes that the software tells one by one.
	lookSoon = 50 * time.Millisecond
	// lookTrying is the pause between looks while tunnels are asked for, and at software that never answered.
	lookTrying = time.Second
	// lookShare is the share of its time, one in so many, that the loop looks at the most when changes never end.
	lookShare = 5
	// hangs is how many looks in a row must go unanswered, and hung for how long, before software that is there counts as not working:
	// one that fails at once, three times in a moment, may be in the middle of a restart.
	hangs = 3
	hung  = hangs * LookLimit
)

// lookAfter looks at the terminator again and again. It owns the verdict about its health.
func (in *instance) lookAfter(ctx context.Context) error {
	var clock wall
	var misses misses
	for ctx.Err() == nil {
		began := time.Now()
		misses = in.look(ctx, began, clock.step(began), misses)
		took := time.Since(began)
		in.asked.open(began)
		pause := in.o.Look
		switch {
		case misses.n > hangs && in.health() == agent.HealthUnknown:
			pause = lookTrying
		case misses.n > 0:
			pause = lookAgain
		case in.queue.trying():
			pause = min(pause, lookTrying)
		}
		in.rest(ctx, pause, max(lookSoon, (lookShare-1)*took))
	}
	return nil
}

// rest waits for the next look. Changes cut it short, but to no less than soon.
func (in *instance) rest(ctx context.Context, pause, soon time.Duration) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-in.urgent:
	case <-in.changed:
		timer.Reset(min(soon, pause))
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-in.urgent:
		}
		select {
		case <-in.changed: // by now it is about the same changes
		default:
		}
	}
}

// misses are looks in a row that failed.
type misses struct {
	n     int
	since time.Time // when the first one began
}

// look asks the terminator once. It returns the looks in a row that failed.
func (in *instance) look(ctx context.Context, now time.Time, step time.Duration, m misses) misses {
	limited, cancel := context.WithTimeout(ctx, LookLimit)
	list, err := in.Terminator.Tunnels(limited)
	cancel()
	if ctx.Err() != nil {
		return m
	}
	if err == nil {
		in.seen(now, step, list)
		return misses{}
	}
	if m.n++; m.n == 1 {
		m.since = now
	}
	if errors.Is(err, terminator.ErrGone) || m.n >= hangs && time.Since(m.since) >= hung {
		in.fails(ctx, now, err)
	}
	in.queue.look(now)
	return m
}

// seen takes in what is established.
func (in *instance) seen(now time.Time, step time.Duration, list []agent.Tunnel) {
	list, odd, why := reportable(list)
	news := in.book.update(now, step, list)
	in.mu.Lock()
	if odd != in.odd && odd > 0 {
		in.log.Warn("tunnels cannot be reported", "tunnels", odd, "one", why)
	}
	in.odd, in.looked = odd, now
	in.mu.Unlock()
	in.verdict(agent.HealthWorking, "", uint32(len(list)))
	if news {
		in.news()
	}
	in.queue.look(now)
}

// fails finds out what software still carries whose control process does not answer. Of software that never answered this agent it
// says nothing: what is wrong may be the agent's file, and a working real server must not die of that.
func (in *instance) fails(ctx context.Context, now time.Time, why error) {
	d, ok := in.Terminator.(terminator.DataPath)
	switch {
	case in.health() == agent.HealthUnknown:
		in.unproven(why)
		return
	case ok:
	case errors.Is(why, terminator.ErrGone):
		in.dies(now, why.Error())
		return
	default: // not known to be dead: what lists the tunnels may be what fails
		in.verdict(agent.HealthHeadless, why.Error(), uint32(in.book.count()))
		return
	}
	limited, cancel := context.WithTimeout(ctx, LookLimit)
	defer cancel()
	switch n, err := d.Carries(limited); {
	case ctx.Err() != nil:
	case err != nil: // not known to be dead
		in.verdict(agent.HealthHeadless, fmt.Sprintf("%v; what the kernel still carries is not known: %v", why, err), uint32(in.book.count()))
	case n == 0:
		in.dies(now, why.Error()+"; the kernel carries nothing either")
	default:
		in.verdict(agent.HealthHeadless, why.Error()+"; the kernel carries what was established", uint32(n))
	}
}

// neverAnswered begins the cause of a health that is not known.
const neverAnswered = "it never answered this agent"

// unproven says why the health is not known. Directors go by what they see themselves. What the software, or who is there in its
// place, says may differ each time: it is one alarm.
func (in *instance) unproven(why error) {
	cause := short(neverAnswered + "; is it where the host's file says? " + why.Error())
	in.mu.Lock()
	news := !strings.HasPrefix(in.now.Cause, neverAnswered)
	in.mu.Unlock()
	in.change(true, func(s *agent.Status) { s.Cause = cause })
	if news {
		in.log.Error("terminator never answered: directors are told that its health is not known", "terminator", in.Server.Terminator, "error", why,
			"remedy", "start it, or correct terminator in the host's file")
	}
}

func (in *instance) dies(now time.Time, why string) {
	news := in.book.empty(now)
	in.verdict(agent.HealthDead, why, 0)
	if news {
		in.news()
	}
}

// verdict tells a health. A cause that changes while the health stays is told too.
func (in *instance) verdict(h agent.Health, cause string, tunnels uint32) {
	var before agent.Health
	in.change(true, func(s *agent.Status) {
		before = s.Health
		if s.Health != h {
			s.Health, s.Since = h, time.Now()
		}
		s.Cause, s.Tunnels = short(cause), tunnels
	})
	if before == h {
		return
	}
	if h == agent.HealthWorking {
		in.log.Info("terminator works", "before", before.String(), "tunnels", tunnels)
		for _, c := range in.queue.wake {
			poke(c)
		}
		return
	}
	in.log.Warn("terminator is "+h.String(), "before", before.String(), "cause", cause)
}

// reportable leaves out what a director would refuse, and with it all the others in the same report. The list is not changed.
func reportable(list []agent.Tunnel) (out []agent.Tunnel, odd int, why string) {
	for i := range list {
		w := unfit(&list[i])
		switch {
		case w == "" && i >= agent.MaxReported:
			w = fmt.Sprintf("at most %d tunnels of a real server", agent.MaxReported)
			fallthrough
		case w != "" && odd == 0:
			out = append(make([]agent.Tunnel, 0, len(list)), list[:i]...)
			fallthrough
		case w != "":
			odd, why = odd+1, w
		case odd > 0:
			out = append(out, list[i])
		}
	}
	if odd == 0 {
		return list, 0, ""
	}
	return out, odd, why
}

// unfit says why a tunnel cannot be reported; "" if it can.
func unfit(t *agent.Tunnel) string {
	switch {
	case t.Peer == "" || len(t.Peer) > agent.MaxText || !utf8.ValidString(t.Peer):
		return fmt.Sprintf("%.80q is no name of a peer: 1 to %d bytes of UTF-8", t.Peer, agent.MaxText)
	case !t.Endpoint.Addr().IsValid():
		return fmt.Sprintf("peer %.80q has no endpoint", t.Peer)
	case len(t.Subnets) > agent.MaxSubnets:
		return fmt.Sprintf("peer %.80q has %d subnets: at most %d", t.Peer, len(t.Subnets), agent.MaxSubnets)
	}
	return ""
}
