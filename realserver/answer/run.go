package answer

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	lookEvery   = 2 * time.Second        // whether the namespace is still the one that the sockets are in
	reopenAfter = 500 * time.Millisecond // between attempts
)

// Run answers until ctx ends, and closes what Open opened. A socket that fails is opened again, and so are all when the
// namespace was made anew.
func (r *Responder) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, p := range r.ports {
		g.Go(func() error {
			stop := context.AfterFunc(ctx, p.close)
			defer stop()
			return r.serve(ctx, p)
		})
	}
	if r.o.Space != "" {
		g.Go(func() error { return r.watch(ctx) })
	}
	err := g.Wait()
	for _, p := range r.ports {
		p.close()
	}
	return err
}

// watch closes sockets that are in a namespace of before; who reads from them opens them again.
func (r *Responder) watch(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now, err := identify(r.o.Space)
		if err != nil {
			continue // it is gone; until there is another one nothing can be opened
		}
		for _, p := range r.ports {
			p.leave(now)
		}
	}
}

// reopen opens a port again, and does not give up.
func (r *Responder) reopen(ctx context.Context, p *port, why error) {
	r.o.Log.Warn("socket for probes failed, open it again", "at", p.at, "err", why)
	said := false
	for {
		err := p.open()
		if err == nil {
			r.o.Log.Info("answers probes again", "at", p.at)
			if ctx.Err() != nil {
				p.close()
			}
			return
		}
		if !said {
			r.o.Log.Warn("open the socket for probes", "at", p.at, "err", err)
			said = true
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(reopenAfter):
		}
	}
}
