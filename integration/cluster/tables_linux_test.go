package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"tunneldirector/director/api"
	"tunneldirector/integration/daemon"
)

var errNotYet = errors.New("not yet")

// fillers are so many tunnels that no site has, from a number on.
func fillers(from, n int) []api.BatchItem {
	var list []api.BatchItem
	for i := range n {
		list = append(list, api.BatchItem{Tunnel: daemon.Filler(from + i)})
	}
	return list
}

// push pushes items as an NMS does, by one stream, and demands that all are acknowledged.
func (r *rig) push(ctx context.Context, d *daemon.Daemon, items []api.BatchItem) error {
	s, err := d.Client.Batch(ctx, each(items), false, nil)
	if err == nil && s.Refused+s.Unanswered > 0 {
		err = fmt.Errorf("of %d changes %d were refused and %d not answered", len(items), s.Refused, s.Unanswered)
	}
	if err != nil {
		return fmt.Errorf("push to %s: %w", d.On().Title, err)
	}
	return nil
}

func each(items []api.BatchItem) func(func(api.BatchItem, error) bool) {
	return func(yield func(api.BatchItem, error) bool) {
		for _, x := range items {
			if !yield(x, nil) {
				return
			}
		}
	}
}

// partition cuts the first director off the two others while pushes run to both sides, some of them for the same tunnels. Both
// sides go on; when they are one again, their tables are, and all that was acknowledged is there.
func (r *rig) partition() {
	n := 1500
	if long() {
		n = 50_000
	}
	f := r.flow(r.Sites...)
	var all sync.WaitGroup
	errs := make([]error, 2)
	for i, d := range r.d[:2] {
		all.Go(func() { errs[i] = r.push(r.ctx, d, fillers(i*n*9/10, n)) }) // a tenth are pushed to both
	}
	r.rest(50 * time.Millisecond)
	heal := r.cut(r.Directors[:1], r.Directors[1:])
	all.Wait()
	for _, err := range errs {
		r.must("push", err)
	}
	r.until(20*time.Second, "wait until the other side assigns", func() error { return r.assigns(r.d[1], "d2") })
	r.must("push to one side", r.push(r.ctx, r.d[0], fillers(2*n, 20)))
	r.must("push to the other side", r.push(r.ctx, r.d[2], fillers(2*n+10, 20)))
	at := time.Now()
	heal()
	r.settle()
	r.Logf("MEASURED partition healed after %.2f s: equal, %d tunnels", time.Since(at).Seconds(), 2*n)
	f.end("partition").lossless(r)
	table := r.table(r.d[0])
	for i := range n * 19 / 10 {
		if id := daemon.Filler(i).ID; table[id] == "" {
			r.Fatalf("%s was acknowledged, and is lost", id)
		}
	}
	for i := range 30 {
		if id := daemon.Filler(2*n + i).ID; table[id] == "" {
			r.Errorf("%s was acknowledged during the partition, and is lost", id)
		}
	}
	r.tables(r.d...)
	r.clear()
}

// clear deletes all fillers. What follows begins with tunnels that work: those that had nothing to do for minutes make new keys.
func (r *rig) clear() {
	r.Helper()
	var items []api.BatchItem
	for id := range r.table(r.d[0]) {
		if len(id) > 6 && id[:6] == "filler" {
			items = append(items, api.BatchItem{Delete: id})
		}
	}
	r.must("delete the fillers", r.push(r.ctx, r.d[0], items))
	r.until(time.Minute, "wait until all have it", func() error { return r.equal(r.d...) })
	ctx, cancel := context.WithTimeout(r.ctx, 20*time.Second)
	defer cancel()
	r.must("have all tunnels work", r.Establish(ctx))
}

// fullDisk fills the third director's disk: it refuses pushes, takes none from the others either, and says so; the others go on.
// With room again it has all.
func (r *rig) fullDisk() {
	d := r.d[2]
	f := r.flow(r.Sites...)
	filler := filepath.Join(filepath.Dir(d.Data()), "filler")
	r.fill(filler)
	r.until(15*time.Second, "wait for a refusal", func() error {
		var p *api.Problem
		if _, err := d.Client.PutTunnel(r.ctx, daemon.Filler(0)); !errors.As(err, &p) || p.Status != 507 && p.Status != 503 {
			return fmt.Errorf("a push: %w, want 503 or 507", err)
		}
		return nil
	})
	r.must("push to another", r.push(r.ctx, r.d[0], fillers(1, 50)))
	r.until(15*time.Second, "see that its disk is full", func() error {
		if st, err := d.Client.Status(r.ctx); err != nil || st.Writable || len(st.Alarms) == 0 {
			return errors.Join(fmt.Errorf("status says writable: %t, alarms %q", st.Writable, st.Alarms), err)
		}
		return nil
	})
	r.until(15*time.Second, "have all addresses where they belong", func() error { return r.heldBy(r.owned()) })
	r.must("make room", os.Remove(filler))
	r.settle()
	f.end("full disk").lossless(r)
	if n := len(r.table(d)); n < len(r.Sites)+50 {
		r.Errorf("it has %d tunnels, want those of the sites and 50", n)
	}
	r.clear()
}

// fill leaves a megabyte on the disk that a file is made on.
func (r *rig) fill(path string) {
	r.Helper()
	var st unix.Statfs_t
	r.must("look at the disk", unix.Statfs(filepath.Dir(path), &st))
	f, err := os.Create(path)
	r.must("fill the disk", err)
	r.must("fill the disk", errors.Join(unix.Fallocate(int(f.Fd()), 0, 0, int64(st.Bavail)*st.Bsize-1<<20), f.Close()))
}

// oldCopy brings the third director's table back as it was two starts ago: the others know better, so that it is moved aside, and
// filled anew.
func (r *rig) oldCopy() {
	d := r.d[2]
	r.must("stop", d.Stop())
	kept := d.Data() + ".copy"
	r.must("copy the table", os.CopyFS(kept, os.DirFS(d.Data())))
	for range 2 {
		r.launch(d)
		r.must("push", r.push(r.ctx, d, fillers(0, 20)))
		r.until(time.Minute, "wait until all have it", func() error { return r.equal(r.d...) })
		r.must("delete", r.push(r.ctx, r.d[0], []api.BatchItem{{Delete: daemon.Filler(3).ID}}))
		r.must("stop", d.Stop())
	}
	r.remove(d)
	r.must("bring the copy back", os.Rename(kept, d.Data()))
	f := r.flow(r.Sites...)
	r.must("start it", d.Launch())
	r.until(time.Minute, "wait until it has what the others have", func() error {
		if aside, err := filepath.Glob(filepath.Join(d.Data(), "aside-*")); err != nil || len(aside) != 1 {
			return fmt.Errorf("moved aside are %q (%w)", aside, err)
		}
		return r.equal(r.d...)
	})
	if n := len(r.table(d)); n != len(r.Sites)+19 {
		r.Errorf("it has %d tunnels, want those of the sites and 19", n)
	}
	f.end("old copy").lossless(r)
	r.clear()
}

// empty brings a director back with nothing: it has all before it is ready.
func (r *rig) empty() {
	d := r.d[2]
	n := 500
	if long() {
		n = 100_000
	}
	r.must("push", r.push(r.ctx, r.d[0], fillers(0, n)))
	r.must("stop", d.Stop())
	r.remove(d)
	f := r.flow(r.Sites...)
	at := time.Now()
	r.launch(d)
	r.Logf("MEASURED empty: ready after %.2f s, with %d tunnels", time.Since(at).Seconds(), n)
	if got := len(r.table(d)); got != len(r.Sites)+n {
		r.Errorf("ready with %d tunnels, want %d", got, len(r.Sites)+n)
	}
	r.settle()
	f.end("empty").lossless(r)
	r.clear()
}
