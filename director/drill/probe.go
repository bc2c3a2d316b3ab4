package drill

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	probesAtOnce = 32 // begun or stopped
	answerWithin = 5 * time.Second
)

// probe begins to send packets through the sample, and waits until each tunnel has answered: of one that never does, nothing could be told.
func (r *run) probe(ctx context.Context) error {
	var g errgroup.Group
	g.SetLimit(probesAtOnce)
	lasting, release := context.WithCancel(context.WithoutCancel(ctx))
	r.release, r.probings = release, make([]Probing, len(r.plan.Sample))
	for i, t := range r.plan.Sample {
		g.Go(func() (err error) {
			r.probings[i], err = r.w.Probe(lasting, t.ID, r.d.Sample.Every)
			if err != nil {
				return fmt.Errorf("probe tunnel %s: %w", t.ID, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	begun := time.Now()
	for {
		mute, n := "", 0
		for i, p := range r.probings {
			elapsed := time.Since(begun) // before Silent, which is longer than this if there was no answer yet
			if p.Silent() >= elapsed {
				mute, n = r.plan.Sample[i].ID, n+1
			}
		}
		switch {
		case n == 0:
			r.tell("the sample answers: %s", some(len(r.probings), "tunnel"))
			return nil
		case time.Since(begun) >= answerWithin:
			return fmt.Errorf("%w: %d of %s did not answer within %s, %s is one of them", ErrNotReady, n, some(len(r.probings), "tunnel"), answerWithin, mute)
		}
		if err := sleep(ctx, r.d.Sample.Every); err != nil {
			return err
		}
	}
}

// stop ends all probings and returns their packets, as the plan's sample.
func (r *run) stop() [][]Packet {
	packets, errs := make([][]Packet, len(r.probings)), make([]error, len(r.probings))
	var g errgroup.Group
	g.SetLimit(probesAtOnce)
	for i, p := range r.probings {
		if p == nil {
			continue
		}
		g.Go(func() error {
			packets[i], errs[i] = p.Stop()
			return nil
		})
	}
	g.Wait() // errors are by tunnel
	r.release()
	for i, err := range errs {
		if err != nil {
			r.fail(Failure{What: fmt.Sprintf("packets of the probe are not all known: %v", err), Tunnel: r.plan.Sample[i].ID})
		}
	}
	return packets
}

// mute is the tunnel that has been silent for longest, if that is for so long.
func (r *run) mute(forLong time.Duration) (tunnel string, silent time.Duration) {
	for i, p := range r.probings {
		if d := p.Silent(); d >= forLong && d > silent {
			tunnel, silent = r.plan.Sample[i].ID, d
		}
	}
	return tunnel, silent
}
