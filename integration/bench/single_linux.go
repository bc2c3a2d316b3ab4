package main

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"tunneldirector/director/api"
)

const (
	singles = 400    // pushes, one after the other
	clients = 64     // at once
	extra   = 20_000 // tunnels beside the batch's that single pushes use; below what the tables have room for
)

// single measures one push against the full table, in turns with one synced transaction.
func (t *target) single(ctx context.Context, floor *floorStore) error {
	t.say("single pushes")
	count := singles
	if t.o.quick {
		count = 100
	}
	var push, put samples
	for i := range count {
		began := time.Now()
		if _, err := t.Client.PutTunnel(ctx, tunnel(t.n+i)); err != nil {
			return err
		}
		push = append(push, milliseconds(time.Since(began)))
		f, err := floor.put(t.n + i)
		if err != nil {
			return err
		}
		put = append(put, f)
	}
	median := over(t.name("single push"), "ms", one(push.median()), "synced badger transaction", one(put.median()))
	t.add(median.ratioAtMost(10))
	t.add(over(t.name("single push, p99"), "ms", push.p99(), "synced badger transaction, p99", put.p99()))
	return nil
}

// crowd measures many clients at once against one, in turns.
func (t *target) crowd(ctx context.Context) error {
	t.say("%d clients at once", clients)
	span := 1500 * time.Millisecond
	if t.o.quick {
		span = 500 * time.Millisecond
	}
	var alone, together samples
	for i := range t.o.rounds() {
		a, err := t.rate(ctx, 1, span, uint64(2*i+1))
		if err != nil {
			return err
		}
		b, err := t.rate(ctx, clients, span, uint64(2*i+2))
		if err != nil {
			return err
		}
		alone, together = append(alone, a), append(together, b)
	}
	t.add(against(t.name("64 clients"), "pushes/s", together, "one client", alone).ratioAtLeast(10))
	return nil
}

// rate is how many pushes a second so many clients get answered. Bandwidth makes each push of a round a change.
func (t *target) rate(ctx context.Context, clients int, span time.Duration, bandwidth uint64) (float64, error) {
	counts := make([]int, clients)
	began := time.Now()
	g, ctx := errgroup.WithContext(ctx)
	for c := range clients {
		g.Go(func() error {
			client, err := api.NewClient(api.ClientOptions{Socket: t.socket()})
			if err != nil {
				return err
			}
			for i := c; time.Since(began) < span; i += clients {
				tunnel := tunnel(t.n + i%extra)
				tunnel.Bandwidth = bandwidth<<32 + uint64(i/extra)
				if _, err := client.PutTunnel(ctx, tunnel); err != nil {
					return err
				}
				counts[c]++
			}
			return nil
		})
	}
	err := g.Wait()
	all := 0
	for _, n := range counts {
		all += n
	}
	return float64(all) / time.Since(began).Seconds(), err
}

// deaths kills one real server after the other. The first holds a third of the pins, the next ones more.
func (t *target) deaths(ctx context.Context) error {
	var d death
	for i := range t.o.rounds() {
		if err := t.kill(ctx, 1+i%len(t.lab.RealServers), &d); err != nil {
			return err
		}
	}
	t.addBySize("death, plane write", "us", d.plane).limit(1.5)
	t.addBySize("death, latched on disk", "ms", d.latched).limit(1.5)
	t.addBySize("death, cable to plane write", "ms", d.noticed).limit(1.5)
	t.addBySize("death, all groups mended", "s", d.mended[:1])
	return nil
}

// limit sets the target of a row that is there already.
func (r *Row) limit(x float64) { *r = r.ratioAtMost(x) }

// A death is how long each step of it took.
type death struct{ plane, latched, noticed, mended samples }

// kill pulls a real server's cables, measures, and lets it live again.
func (t *target) kill(ctx context.Context, rs int, d *death) error {
	name := fmt.Sprintf("rs%d", rs)
	t.say("death of %s", name)
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	latched, err := t.watch(ctx, name)
	if err != nil {
		return err
	}
	from, pulled := t.log.end(), time.Now()
	if err := t.lab.KillRealServer(rs); err != nil {
		return err
	}
	dead, err := t.await(ctx, from, `real_server=`+name+` `)
	if err != nil {
		return err
	}
	us, err := dead.value("plane_us")
	if err != nil {
		return err
	}
	var at time.Time
	select {
	case at = <-latched:
	case <-ctx.Done():
		return fmt.Errorf("wait for the event of the death of %s: %w", name, ctx.Err())
	}
	mended, err := t.await(ctx, from, `msg="placements mended"`)
	if err != nil {
		return err
	}
	d.plane, d.latched = append(d.plane, us), append(d.latched, milliseconds(at.Sub(dead.at)))
	d.noticed, d.mended = append(d.noticed, milliseconds(dead.at.Sub(pulled))), append(d.mended, mended.at.Sub(dead.at).Seconds())
	if err := t.lab.Restore(rs); err != nil {
		return err
	}
	return t.Until(ctx, func() error {
		s, err := t.Client.RealServer(ctx, name)
		if err == nil && s.State != "alive" {
			err = fmt.Errorf("%s is %s", name, s.State)
		}
		return err
	})
}

// watch sends the time at which the event of a real server's death comes, which is after its latch is on disk.
func (t *target) watch(ctx context.Context, name string) (<-chan time.Time, error) {
	st, err := t.Client.Status(ctx)
	if err != nil {
		return nil, err
	}
	since := fmt.Sprintf("%s:%d", st.Store, st.Revision)
	at := make(chan time.Time, 1)
	go func() {
		for w, err := range t.Client.Watch(ctx, since) {
			if err != nil || w.Kind == "real-server" && w.Object == name {
				at <- time.Now()
				return
			}
		}
	}()
	return at, nil
}

// await waits for a line of the log.
func (t *target) await(ctx context.Context, from int, words string) (l line, err error) {
	err = within(ctx, 3*time.Minute, func() error {
		l, err = t.log.find(from, words)
		return err
	})
	return l, err
}
