package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"tunneldirector/director/api"
	"tunneldirector/integration/daemon"
	"tunneldirector/integration/lab"
)

// A target is the director's program on a lab, and what was measured of it.
type target struct {
	*daemon.Daemon
	o     options
	lab   *lab.Lab
	dir   string
	n     int
	log   *journal
	rows  []Row
	small map[string]samples // figures of the smallest size, which others are held against
}

// control measures the control plane at all sizes.
func control(ctx context.Context, o options) (rows []Row, err error) {
	o.say("control: building the lab")
	l, err := lab.New(ctx, lab.Options{Sites: 1, RealServers: 3})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	small := map[string]samples{}
	for _, n := range o.sizes() {
		t := &target{o: o, lab: l, n: n, log: &journal{}, small: small}
		err := t.measure(ctx)
		rows = append(rows, t.rows...)
		if err != nil {
			return rows, fmt.Errorf("%d tunnels: %w; the director's log ends: %s", n, err, t.log.tail())
		}
	}
	return rows, nil
}

func (t *target) measure(ctx context.Context) (err error) {
	if t.dir, err = os.MkdirTemp("", "bench-control-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(t.dir)) }()
	floor := &floorStore{dir: filepath.Join(t.dir, "floor")}
	defer func() { err = errors.Join(err, floor.close(), t.end()) }()
	for _, step := range []func() error{
		func() error { return t.batches(ctx, floor) }, func() error { return t.memory("batch") }, t.kernelMemory,
		func() error { return t.single(ctx, floor) }, func() error { return t.crowd(ctx) }, func() error { return t.starts(ctx, floor) },
		func() error { return t.deaths(ctx) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (t *target) say(format string, a ...any) {
	t.o.say("control: %d tunnels: %s", t.n, fmt.Sprintf(format, a...))
}

func (t *target) name(s string) string { return fmt.Sprintf("%s/%d", s, t.n) }

func (t *target) add(r Row) { t.rows = append(t.rows, r) }

// addBySize holds samples against those of the smallest size, which is measured first.
func (t *target) addBySize(name, unit string, s samples) *Row {
	if t.n == t.o.sizes()[0] {
		t.small[name] = s
	}
	t.add(against(t.name(name), unit, s, fmt.Sprintf("at %d tunnels", t.o.sizes()[0]), t.small[name]))
	return &t.rows[len(t.rows)-1]
}

// begin starts a director with an empty store.
func (t *target) begin(ctx context.Context) (err error) {
	if err := os.RemoveAll(filepath.Join(t.dir, "data")); err != nil {
		return err
	}
	t.Daemon, err = daemon.New(t.lab, daemon.Options{Binary: t.o.director, Dir: t.dir, Log: t.log})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := t.Start(ctx); err != nil {
		return err
	}
	return t.Apply(ctx)
}

// end stops the director and takes it out of the kernel.
func (t *target) end() error {
	if t.Daemon == nil {
		return nil
	}
	err := t.Stop()
	_, uninstalled := t.Command("uninstall", "--yes", "--config", filepath.Join(t.dir, "director.yaml"))
	return errors.Join(err, uninstalled)
}

// batches streams n tunnels to empty directors, in turns with the floor. The last director and the last floor stay.
func (t *target) batches(ctx context.Context, floor *floorStore) error {
	lines, err := body(t.n)
	if err != nil {
		return err
	}
	var parse, alone, took samples
	for i := range t.o.rounds() {
		t.say("batch, round %d of %d", i+1, t.o.rounds())
		if i > 0 {
			if err := errors.Join(t.end(), floor.close(), os.RemoveAll(floor.dir)); err != nil {
				return err
			}
		}
		if err := floor.open(); err != nil {
			return err
		}
		p, err := parseAlone(lines)
		if err != nil {
			return err
		}
		b, err := floor.batch(t.n)
		if err != nil {
			return err
		}
		if err := t.begin(ctx); err != nil {
			return err
		}
		began := time.Now()
		if err := t.push(ctx, lines); err != nil {
			return err
		}
		parse, alone, took = append(parse, p), append(alone, b), append(took, time.Since(began).Seconds())
	}
	t.add(over(t.name("batch"), "s", took, "parsing alone + badger batch alone", parse.plus(alone)).ratioAtMost(3))
	t.add(against(t.name("badger batch alone"), "s", alone, "parsing alone", parse))
	return t.holds(ctx)
}

// push sends the lines to the director and insists that all were taken in.
func (t *target) push(ctx context.Context, lines []byte) error {
	c := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", t.socket())
	}}}
	defer c.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://localhost/v1/tunnels/batch", bytes.NewReader(lines))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	res, err := c.Do(req)
	if err != nil {
		return fmt.Errorf("push the batch: %w", err)
	}
	defer res.Body.Close()
	var last api.StreamLine
	for d := json.NewDecoder(res.Body); last.Summary == nil; {
		if err := d.Decode(&last); err != nil {
			return fmt.Errorf("read the batch's answer: %w", err)
		}
	}
	if s := last.Summary; !s.Complete || s.Created != t.n || s.Unplaced != 0 {
		return fmt.Errorf("the batch of %d was not taken in: %+v", t.n, *s)
	}
	return nil
}

// holds insists that the last tunnel is in the data plane, both ways.
func (t *target) holds(ctx context.Context) error {
	last := tunnel(t.n - 1)
	inside := strings.TrimSuffix(last.Subnets[0], "/30")
	for _, q := range []api.Question{{Src: last.Endpoints[0], Dst: lab.VIP4.String()}, {Src: t.lab.Target.Inner.Addrs[0].String(), Dst: inside}} {
		e, err := t.Client.Lookup(ctx, q)
		if err != nil {
			return err
		}
		if e.Action != "forward" || !e.Agrees {
			return fmt.Errorf("the last tunnel of the batch is not programmed: %+v", e)
		}
	}
	return nil
}

func (t *target) socket() string {
	return filepath.Join(t.lab.Director.RunDir(), "tunneldirector/api.sock")
}

// starts measures from exec to ready over the full table.
func (t *target) starts(ctx context.Context, floor *floorStore) error {
	var ready, alone samples
	for i := range t.o.rounds() {
		t.say("start, round %d of %d", i+1, t.o.rounds())
		if err := errors.Join(t.Stop(), floor.close()); err != nil {
			return err
		}
		f, err := floor.reopen()
		if err != nil {
			return err
		}
		began := time.Now()
		if err := t.Start(ctx); err != nil {
			return err
		}
		ready, alone = append(ready, time.Since(began).Seconds()), append(alone, f)
	}
	if err := t.memory("start"); err != nil {
		return err
	}
	t.add(over(t.name("start"), "s", ready, "badger open and iterate alone", alone).ratioAtMost(2))
	return nil
}
