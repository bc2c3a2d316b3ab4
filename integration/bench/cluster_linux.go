package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/vishvananda/netlink"

	"tunneldirector/affinity"
	"tunneldirector/director/api"
	"tunneldirector/integration/daemon"
	"tunneldirector/integration/lab"
)

// three is a lab with three directors, of which one is first run alone.
type three struct {
	*target
	authority *daemon.Authority
	d         []*daemon.Daemon
}

// clusters measures several directors against one: pushes, a healed partition, and what they say at rest.
func clusters(ctx context.Context, o options) (rows []Row, err error) {
	o.say("cluster: building the lab")
	l, err := lab.New(ctx, lab.Options{Sites: 1, RealServers: 3, Directors: 3})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	sizes := []int{100_000, million}
	if o.quick {
		sizes = []int{10_000}
	}
	for _, n := range sizes {
		t := &three{target: &target{o: o, lab: l, n: n, log: &journal{}}}
		err := t.measure(ctx)
		rows = append(rows, t.rows...)
		if err != nil {
			return rows, fmt.Errorf("%d tunnels: %w; the directors' log ends: %s", n, err, t.log.tail())
		}
	}
	return rows, nil
}

func (t *three) measure(ctx context.Context) (err error) {
	if t.dir, err = os.MkdirTemp("", "bench-cluster-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(t.dir)) }()
	pki := filepath.Join(t.dir, "pki")
	if err := os.Mkdir(pki, 0o700); err != nil {
		return err
	}
	if t.authority, err = daemon.NewAuthority(pki); err != nil {
		return err
	}
	var alone, joined samples
	rounds := t.o.rounds()
	if t.n == million {
		rounds = 1
	}
	for i := range rounds {
		t.say("push, round %d of %d", i+1, rounds)
		a, err := t.alone(ctx)
		if err != nil {
			return err
		}
		j, err := t.together(ctx)
		if err != nil {
			return errors.Join(err, t.endAll())
		}
		alone, joined = append(alone, a), append(joined, j)
		if i < rounds-1 {
			if err := t.endAll(); err != nil {
				return err
			}
		}
	}
	t.add(against(t.name("push, until all 3 have it"), "s", joined, "one director alone", alone).ratioAtMost(2))
	return errors.Join(errors.Join(t.rest(ctx), t.heal(ctx)), t.endAll())
}

// alone pushes to one director without others.
func (t *three) alone(ctx context.Context) (float64, error) {
	lines, err := body(t.n)
	if err != nil {
		return 0, err
	}
	if err := t.begin(ctx); err != nil {
		return 0, err
	}
	began := time.Now()
	err = t.push(ctx, lines)
	took := time.Since(began).Seconds()
	return took, errors.Join(err, t.end(), os.RemoveAll(filepath.Join(t.dir, "data")))
}

// together starts all directors and pushes to the second, which does not assign.
func (t *three) together(ctx context.Context) (float64, error) {
	lines, err := body(t.n)
	if err != nil {
		return 0, err
	}
	t.d = nil
	for _, on := range t.lab.Directors {
		dir := filepath.Join(t.dir, on.Title)
		if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o700)); err != nil {
			return 0, err
		}
		settings, err := t.authority.Member(t.lab, on, daemon.Membership{})
		if err != nil {
			return 0, err
		}
		d, err := daemon.New(t.lab, daemon.Options{Binary: t.o.director, Dir: dir, On: on, Settings: settings, Log: t.log})
		if err != nil {
			return 0, err
		}
		t.d = append(t.d, d)
		if err := d.Launch(); err != nil {
			return 0, err
		}
	}
	for _, d := range t.d {
		if err := d.Ready(ctx); err != nil {
			return 0, err
		}
	}
	if err := t.d[0].Apply(ctx); err != nil {
		return 0, err
	}
	if err := t.equal(ctx, 0, time.Minute); err != nil {
		return 0, err
	}
	second := *t.target
	second.Daemon = t.d[1]
	began := time.Now()
	if err := second.push(ctx, lines); err != nil {
		return 0, err
	}
	err = t.equal(ctx, t.n, 10*time.Minute)
	return time.Since(began).Seconds(), err
}

// equal waits until all directors have n tunnels, all placed, in their tables and their planes, and the same ones.
func (t *three) equal(ctx context.Context, n int, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	var last error
	for {
		if last = t.differs(ctx, n); last == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the directors are not equal after %v: %w", within, last)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (t *three) differs(ctx context.Context, n int) error {
	for i, d := range t.d {
		st, err := d.Client.Status(ctx)
		if err != nil {
			return err
		}
		if int(st.Tunnels.Placed) != n || !st.Plane.InSync {
			return fmt.Errorf("d%d has placed %d of %d, in step %v", i+1, st.Tunnels.Placed, n, st.Plane.InSync)
		}
		c, err := d.Client.Cluster(ctx)
		if err != nil {
			return err
		}
		for _, m := range c.Members {
			if !m.Self && (m.State != api.MemberAlive || m.Lag.Records > 0 || !m.Digest.Equal) {
				return fmt.Errorf("d%d: %s is %s, lags by %d records, equal %v", i+1, m.Name, m.State, m.Lag.Records, m.Digest.Equal)
			}
		}
	}
	return nil
}

// restTime is for how long directors at rest are listened to.
const restTime = 20 * time.Second

// rest measures what a director sends and gets on the directors' own network while nothing happens.
func (t *three) rest(ctx context.Context) error {
	t.say("at rest, for %v", restTime)
	before, err := t.bytes(t.lab.Directors[0])
	if err != nil {
		return err
	}
	select {
	case <-time.After(restTime):
	case <-ctx.Done():
		return ctx.Err()
	}
	after, err := t.bytes(t.lab.Directors[0])
	if err != nil {
		return err
	}
	rate := samples{float64(after-before) / restTime.Seconds() / 1000}
	t.add(against(t.name("gossip, heartbeats, digests at rest, a director"), "kB/s", rate, "the target", samples{50}).valueAtMost(50))
	return nil
}

// bytes are those that a director has sent and got on the directors' own network, Ethernet headers among them.
func (t *three) bytes(d *lab.Director) (n uint64, err error) {
	err = d.Run(func() error {
		l, err := netlink.LinkByName(d.Mgmt.Name)
		if err != nil {
			return err
		}
		s := l.Attrs().Statistics
		n = s.RxBytes + s.TxBytes
		return nil
	})
	return n, err
}

// heal parts the third director from the others, changes one tunnel in a hundred meanwhile, and counts what moves until the
// tables are equal again.
func (t *three) heal(ctx context.Context) error {
	n := t.n / 100
	t.say("a partition, in which %d tunnels change", n)
	away := t.lab.Directors[2]
	var lifts []func() error
	for _, d := range t.lab.Directors[:2] {
		for _, way := range []struct {
			from lab.Port
			to   netip.Addr
		}{{away.Mgmt, d.Mgmt.Addrs[0]}, {away.RS, d.RS.Addrs[0]}, {d.Mgmt, away.Mgmt.Addrs[0]}, {d.RS, away.RS.Addrs[0]}} {
			lift, err := t.lab.Block(way.from, way.to)
			if err != nil {
				return err
			}
			lifts = append(lifts, lift)
		}
	}
	select {
	case <-time.After(8 * time.Second): // streams that hang have been given up by then
	case <-ctx.Done():
		return ctx.Err()
	}
	var differing uint64
	items := func(yield func(api.BatchItem, error) bool) {
		for i := range n {
			w := tunnel(i * 100)
			w.Bandwidth++
			differing += recordSize(w)
			if !yield(api.BatchItem{Tunnel: w}, nil) {
				return
			}
		}
	}
	sum, err := t.d[0].Client.Batch(ctx, items, false, func(api.StreamLine) {})
	if err == nil && sum.Changed != n {
		err = fmt.Errorf("%d of %d tunnels changed: %+v", sum.Changed, n, sum)
	}
	if err != nil {
		return err
	}
	before, err := t.bytes(away)
	if err != nil {
		return err
	}
	began := time.Now()
	for _, lift := range lifts {
		err = errors.Join(err, lift())
	}
	if err = errors.Join(err, t.equal(ctx, t.n, 5*time.Minute)); err != nil {
		return err
	}
	took := time.Since(began).Seconds()
	after, err := t.bytes(away)
	if err != nil {
		return err
	}
	t.add(against(t.name("bytes to heal a partition, 1 % differs"), "MB", samples{float64(after-before) / 1e6}, "bytes differing", samples{float64(differing) / 1e6}).ratioAtMost(3))
	t.add(against(t.name("time to heal it"), "s", samples{took}, "1 s", samples{1}))
	return nil
}

// recordSize is how many bytes a tunnel's record has, key and value, as directors send it.
func recordSize(w api.Tunnel) uint64 {
	tun := affinity.Tunnel{Header: affinity.Header{Stamp: affinity.NewStamp(time.Now(), 0), Origin: "d1", Format: affinity.Format},
		ID: w.ID, Service: w.Service, Owner: "local", Created: affinity.NewStamp(time.Now(), 0), Bandwidth: w.Bandwidth, State: affinity.StateDown}
	tun.Endpoints = []affinity.Endpoint{netip.AddrPortFrom(netip.MustParseAddr(w.Endpoints[0]), 0)}
	tun.Subnets = []netip.Prefix{netip.MustParsePrefix(w.Subnets[0])}
	b, err := tun.Encode()
	if err != nil {
		panic(err) // a record of our own always encodes
	}
	return uint64(len(b) + len(w.ID))
}

// endAll stops all directors and takes them out of the kernel.
func (t *three) endAll() error {
	var errs []error
	for _, d := range slices.Backward(t.d) {
		errs = append(errs, d.Kill(), d.Uninstall())
	}
	t.d = nil
	return errors.Join(errs...)
}
