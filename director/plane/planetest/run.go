package planetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"

	"tunneldirector/director/plane"
	"tunneldirector/director/plane/mem"
)

// Run plays histories over the plane under test and mem, and fails t at the first difference.
func Run(t *testing.T, opt Options) {
	t.Helper()
	opt = opt.withDefaults()
	if err := opt.fromEnvironment(os.Getenv); err != nil {
		t.Fatal(err)
	}
	f, tally := search(t, &opt)
	if f != nil {
		t.Fatalf("%v\nreplay: PLANETEST_SEED=%d go test -run '^%s$'", f, f.seed, t.Name())
	}
	t.Logf("planetest: %d histories from seed %d: %v", opt.Histories, opt.Seed, tally)
}

func (o *Options) fromEnvironment(getenv func(string) string) error {
	if o.Seed == 0 {
		o.Seed = rand.Uint64() >> 1
	}
	if s := getenv("PLANETEST_SEED"); s != "" {
		seed, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			return fmt.Errorf("read PLANETEST_SEED: %w", err)
		}
		o.Seed, o.Histories = seed, 1
	}
	if s := getenv("PLANETEST_HISTORIES"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			return fmt.Errorf("read PLANETEST_HISTORIES: %q is not a number above 0", s)
		}
		o.Histories = n
	}
	return nil
}

// search plays the histories; the first difference, made small, or none.
func search(t testing.TB, opt *Options) (*failure, *tally) {
	r := &rig{t: t, opt: opt, plane: opt.Open(t), tally: &tally{}}
	defer func() {
		if err := r.plane.Close(); err != nil {
			t.Errorf("close the plane: %v", err)
		}
	}()
	for i := range uint64(opt.Histories) {
		steps := history(opt, opt.Seed+i)
		if f := r.play(steps); f != nil {
			f.seed = opt.Seed + i
			r.shrink(f, steps)
			return f, r.tally
		}
	}
	return nil, r.tally
}

// A rig is the plane under test and what drives it.
type rig struct {
	t     testing.TB
	opt   *Options
	plane plane.Plane
	tally *tally
	// servers are those of the last configuration, for the MACs of packets that come from them.
	servers []plane.RealServer
}

// play starts both planes from nothing and takes them through steps.
func (r *rig) play(steps []step) *failure {
	oracle := mem.New(r.opt.Interfaces)
	if err := r.plane.Replace(context.Background(), plane.Config{}, slices.Values([]plane.Entry{})); err != nil {
		return &failure{what: fmt.Sprintf("Replace by nothing, to start the history: %v", err)}
	}
	for i, s := range steps {
		if f := r.step(oracle, s); f != nil {
			f.at = i
			return f
		}
	}
	return nil
}

// step takes both planes through s, then compares its packets.
func (r *rig) step(oracle *mem.Plane, s step) *failure {
	if s.kind == restart {
		if err := r.plane.Close(); err != nil {
			return &failure{what: fmt.Sprintf("Close: %v", err)}
		}
		r.plane = r.opt.Open(r.t)
		if s.update.Config != nil {
			if err := r.plane.Replace(context.Background(), *s.update.Config, slices.Values(s.update.Entries)); err != nil {
				return &failure{what: fmt.Sprintf("Replace after a restart: %v", err)}
			}
		}
	} else {
		if s.call(oracle) != nil {
			return nil // only in a history made shorter: the step has lost its meaning
		}
		if err := s.call(r.plane); err != nil {
			return &failure{what: fmt.Sprintf("the plane refuses what mem takes: %v", err)}
		}
	}
	if s.update.Config != nil {
		r.servers = s.update.Config.RealServers
	}
	for i := range s.packets {
		if f := r.packet(oracle, &s.packets[i]); f != nil {
			return f
		}
		if i == 0 {
			if f := r.broken(oracle, &s.packets[i]); f != nil {
				return f
			}
		}
	}
	return nil
}

// call makes the step's call of p.
func (s step) call(p plane.Plane) error {
	ctx := context.Background()
	switch s.kind {
	case replace:
		return p.Replace(ctx, *s.update.Config, slices.Values(s.update.Entries))
	case setAlive:
		return p.SetAlive(s.index, s.alive)
	}
	return p.Apply(ctx, s.update)
}

func (r *rig) packet(oracle *mem.Plane, p *plane.Packet) *failure {
	want, err := oracle.Lookup(*p)
	if err != nil {
		return &failure{what: fmt.Sprintf("mem: %v", err), packet: p}
	}
	got, err := r.plane.Lookup(*p)
	r.tally.count(want)
	switch {
	case err != nil:
		return &failure{what: fmt.Sprintf("Lookup: %v", err), packet: p}
	case want != got:
		return &failure{what: fmt.Sprintf("Lookup differs\n  want %s\n  got  %s", sayDecision(want), sayDecision(got)), packet: p}
	case r.opt.Inject == nil || p.Interface == "":
		return nil
	}
	if err := r.inject(oracle, *p, want); err != nil {
		return &failure{what: fmt.Sprintf("the frame: %v\n  want %s", err, sayDecision(want)), packet: p}
	}
	return nil
}
