package main

import (
	"context"
	"fmt"
	"time"
)

// flat is what a figure may grow by when there is a hundred times as much, before it counts as growing: system calls and
// syncs of a busy machine vary by half.
const flat = 2

// settle is how long a director needs after a start to have verdicts on all real servers.
const settle = 5 * time.Second

// deaths kills one real server after the other. The first holds a third of the pins, the next ones more. Nobody waits for
// the last one's tunnels to be mended, which takes as long as there are tunnels.
func (t *target) deaths(ctx context.Context) error {
	t.say("the probes settle")
	select { // a director that has just started holds deaths until it has seen others answer
	case <-time.After(settle):
	case <-ctx.Done():
		return ctx.Err()
	}
	var d death
	rounds := t.o.rounds()
	for i := range rounds {
		if err := t.kill(ctx, 1+i%len(t.lab.RealServers), i == 0 || i < rounds-1, &d); err != nil {
			return err
		}
	}
	t.addBySize("death, plane write", "us", d.plane).limit(flat)
	t.addBySize("death, latched on disk", "ms", d.latched).limit(flat)
	t.addBySize("death, cable to plane write", "ms", d.noticed).limit(flat)
	t.addBySize("death, all groups mended", "s", d.mended[:1])
	return nil
}

// limit sets the target of a row that is there already.
func (r *Row) limit(x float64) { *r = r.ratioAtMost(x) }

// A death is how long each step of it took.
type death struct{ plane, latched, noticed, mended samples }

// kill pulls a real server's cables, measures, and lets it live again.
func (t *target) kill(ctx context.Context, rs int, wait bool, d *death) error {
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
	dead, err := t.await(ctx, from, `on their backups" real_server=`+name+` `)
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
	d.plane, d.latched = append(d.plane, us), append(d.latched, milliseconds(at.Sub(dead.at)))
	d.noticed = append(d.noticed, milliseconds(dead.at.Sub(pulled)))
	if wait {
		mended, err := t.await(ctx, from, `msg="placements mended"`)
		if err != nil {
			return err
		}
		d.mended = append(d.mended, mended.at.Sub(dead.at).Seconds())
	}
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
