package realserver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"
	"golang.org/x/time/rate"

	"tunneldirector/director/agent"
	"tunneldirector/realserver/terminator"
)

const (
	// AskLimit is how long the software may take to begin with a tunnel, or to give one up.
	AskLimit = 5 * time.Second
	// workEvery is how often it is asked what the software works with, as long as none of its processes ends.
	workEvery = 30 * time.Second
	// recent is how old the picture may be by which a tunnel is released: within it a site may come back that is not spared.
	recent = 200 * time.Millisecond
)

// carryOut does the jobs of a kind, one at a time, at the pace. While the terminator does not work they wait.
func (in *instance) carryOut(ctx context.Context, kind agent.OrderKind, do func(context.Context, *job)) error {
	limit := rate.NewLimiter(rate.Limit(in.o.Adopt.Rate), max(in.o.Adopt.Burst, 1))
	for ctx.Err() == nil {
		j, wait := in.queue.turn(time.Now(), kind)
		if j == nil || in.health() != agent.HealthWorking {
			await(ctx, in.queue.wake[kind], wait)
			continue
		}
		if limit.Wait(ctx) != nil {
			break
		}
		if j, _ = in.queue.turn(time.Now(), kind); j != nil { // a bigger one may have come meanwhile
			do(ctx, j)
		}
	}
	return nil
}

// await waits for a poke, but no longer than a time.
func await(ctx context.Context, c <-chan struct{}, wait time.Duration) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-c:
	case <-timer.C:
	}
}

func (in *instance) adopt(ctx context.Context, j *job) {
	t, ok := in.queue.try(time.Now(), j)
	if !ok {
		return
	}
	limited, cancel := context.WithTimeout(ctx, AskLimit)
	err := in.Terminator.Adopt(limited, t)
	cancel()
	if ctx.Err() != nil {
		return
	}
	if errors.Is(err, terminator.ErrGone) {
		poke(in.urgent)
	}
	in.queue.tried(time.Now(), j, err)
	poke(in.changed)
}

func (in *instance) release(ctx context.Context, j *job) {
	if in.asked.pass(ctx, time.Now().Add(-recent), func() { poke(in.changed) }) != nil {
		return
	}
	t, ok := in.queue.giveUp(time.Now(), j)
	if !ok {
		return
	}
	limited, cancel := context.WithTimeout(ctx, AskLimit)
	err := in.Terminator.Release(limited, t)
	cancel()
	if ctx.Err() != nil {
		return
	}
	in.queue.gaveUp(time.Now(), j, err)
	poke(in.changed)
}

// wantAccept says whether new tunnels are to be taken.
func (in *instance) wantAccept(on bool) {
	in.mu.Lock()
	same := in.closed == !on
	in.closed = !on
	in.mu.Unlock()
	in.change(false, func(s *agent.Status) { s.Closed = !on })
	if !same {
		in.log.Info("new tunnels", "taken", on, "by", "a director's order")
		poke(in.accept)
	}
}

// obeyAccept makes the software take new tunnels or not, as far as it can.
func (in *instance) obeyAccept(ctx context.Context) error {
	again := newBackoff(time.Second, time.Minute)
	var retry <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-in.accept:
		case <-retry:
		}
		retry = nil
		in.mu.Lock()
		on := !in.closed
		in.mu.Unlock()
		limited, cancel := context.WithTimeout(ctx, AskLimit)
		err := in.Terminator.Accept(limited, on)
		cancel()
		switch {
		case err == nil:
			again.Reset()
		case errors.Is(err, terminator.ErrCannot):
			in.log.Info("the software goes on taking new tunnels; the directors send it none", "says", err)
		case ctx.Err() == nil:
			wait := again.NextBackOff()
			retry = time.After(wait)
			in.log.Warn("cannot say whether new tunnels are taken", "taken", on, "error", err, "again", wait)
		}
	}
}

// measure keeps the load, a second at a time.
func (in *instance) measure(ctx context.Context) error {
	if in.Meter == nil {
		return nil
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	told := ""
	for {
		in.mu.Lock()
		work, tunnels := in.work, in.now.Tunnels
		in.mu.Unlock()
		load, err := in.Meter.Sample(ctx, work, tunnels)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			told = ""
			in.change(false, func(s *agent.Status) { s.Load = load })
		case err.Error() != told:
			told = err.Error()
			in.log.Warn("load is not known", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// watch lets the software tell of changes, for as long as it does.
func (in *instance) watch(ctx context.Context, w terminator.Watcher) error {
	again := newBackoff(100*time.Millisecond, 5*time.Second)
	for {
		began := time.Now()
		err := w.Watch(ctx, in.changed)
		if ctx.Err() != nil {
			return nil
		}
		poke(in.urgent)
		if time.Since(began) > time.Minute {
			again.Reset()
		}
		in.log.Debug("the software tells of no changes now", "error", err)
		await(ctx, nil, again.NextBackOff())
	}
}

// guard looks at once when a process of the software ends.
func (in *instance) guard(ctx context.Context, w terminator.Worker) error {
	ps := newProcesses(func(pid int) {
		in.log.Debug("a process of the terminator ended", "pid", pid)
		poke(in.urgent)
	})
	defer ps.close()
	for ctx.Err() == nil {
		limited, cancel := context.WithTimeout(ctx, LookLimit)
		work, err := w.Work(limited)
		cancel()
		wait := workEvery
		switch {
		case errors.Is(err, terminator.ErrCannot):
			return nil
		case err != nil:
			work, wait = terminator.Work{}, time.Second
		}
		in.mu.Lock()
		in.work = work
		in.mu.Unlock()
		ps.watch(work.Processes)
		await(ctx, ps.ended, wait)
	}
	return nil
}

// try begins a job to adopt, if there still is one.
func (q *queue) try(now time.Time, j *job) (agent.Inherited, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.jobs[j.ID] != j {
		return agent.Inherited{}, false
	}
	j.outcome, j.why, j.asked = agent.OutcomeTrying, "", now
	j.tries++
	q.tell(j.kind, []agent.Step{j.step()})
	return j.Inherited, true
}

// tried takes in what the terminator said. That the tunnel is up is seen by looking.
func (q *queue) tried(now time.Time, j *job, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err == nil || q.jobs[j.ID] != j {
		return
	}
	var s agent.Step
	switch {
	case errors.Is(err, terminator.ErrWait), errors.Is(err, terminator.ErrCannot):
		s = q.settled(j.kind, j.ID, agent.OutcomeWaiting, err.Error())
	case errors.Is(err, terminator.ErrGone):
		j.tries-- // it was not asked
		s = q.again(now, j, err.Error())
	default:
		s = q.again(now, j, err.Error())
	}
	q.tell(j.kind, []agent.Step{s})
}

// giveUp begins a job to release, unless it is done already. The peer is named as it is here.
func (q *queue) giveUp(now time.Time, j *job) (agent.Inherited, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.jobs[j.ID] != j {
		return agent.Inherited{}, false
	}
	x, up := q.book.find(j.Inherited)
	if why := spared(&x, up, j.at); why != "" {
		q.tell(j.kind, []agent.Step{q.settled(j.kind, j.ID, agent.OutcomeDone, why)})
		return agent.Inherited{}, false
	}
	j.outcome, j.asked = agent.OutcomeTrying, now
	j.tries++
	t := j.Inherited
	t.Peer, t.Local, t.Endpoint = x.tunnel.Peer, x.tunnel.Local, x.tunnel.Endpoint
	return t, true
}

func (q *queue) gaveUp(now time.Time, j *job, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.jobs[j.ID] != j {
		return
	}
	var s agent.Step
	switch {
	case err == nil:
		s = q.settled(j.kind, j.ID, agent.OutcomeDone, "")
	case errors.Is(err, terminator.ErrCannot):
		s = q.settled(j.kind, j.ID, agent.OutcomeFailed, err.Error())
	default:
		s = q.again(now, j, fmt.Sprintf("release: %v", err))
	}
	q.tell(j.kind, []agent.Step{s})
}

// trying tells whether tunnels are asked for now.
func (q *queue) trying() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, j := range q.jobs {
		if j.kind == agent.OrderAdopt && j.outcome == agent.OutcomeTrying {
			return true
		}
	}
	return false
}

// newBackoff makes pauses that double, with jitter.
func newBackoff(first, most time.Duration) *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval, b.Multiplier = first, most, 2
	return b
}
