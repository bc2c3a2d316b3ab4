package guest

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"tunneldirector/integration/daemon"
	"tunneldirector/integration/lab"
)

// planes are what each test runs on.
var planes = []string{"xdp", "ipvs"}

// probes are how the director finds a dead real server: more patiently than by default, as an emulated machine that has much
// to do answers nobody for half a second.
const probes = "probe: {interval: 300ms, timeout: 240ms, dead_after: 4, alive_after: 3}"

// onPlanes runs a test on each plane.
func onPlanes(t *testing.T, test func(t *testing.T, plane string)) {
	t.Helper()
	requireGuest(t)
	for _, plane := range planes {
		t.Run(plane, func(t *testing.T) { test(t, plane) })
	}
}

func requireGuest(t *testing.T) {
	t.Helper()
	if os.Getenv("TUNNELDIRECTOR_VM") == "" {
		t.Skip("it takes a kernel with IPVS and IPsec, and tunnel software: run by make test-vm")
	}
}

// soak tells whether the long tests are asked for.
func soak() bool { return os.Getenv("SOAK") != "" }

// measured logs a figure.
func measured(t testing.TB, what string, value any, unit, settings string) {
	t.Helper()
	t.Logf("MEASURED %s %v %s %s", what, value, unit, settings)
}

// seconds is a time as measured logs it.
func seconds(d time.Duration) string { return fmt.Sprintf("%.2f", d.Seconds()) }

// A setup says what a rig is made of.
type setup struct {
	plane    string
	lab      lab.Options // Bare is set
	service  daemon.VirtualService
	settings string // more of the node file
	agents   bool   // the director hears agents; startAgents starts them
}

// A rig is a bare lab with a director that runs and knows nothing yet.
type rig struct {
	*testing.T
	*lab.Lab
	d   *daemon.Daemon
	w   *watch
	ctx context.Context
	set setup

	authority *daemon.Authority // of director and agents; nil: there are none
	files     string            // directory of configurations
}

func newRig(t *testing.T, s setup) *rig {
	t.Helper()
	requireGuest(t)
	begin := time.Now()
	s.lab.Bare = true
	s.lab.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	l, err := lab.New(t.Context(), s.lab)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("close the lab: %v", err)
		}
	})
	r := &rig{T: t, Lab: l, ctx: t.Context(), set: s}
	r.w = r.listen()
	built := time.Since(begin)
	r.files = t.TempDir()
	if s.agents {
		r.authority, err = daemon.NewAuthority(r.files)
		r.must("make an authority", err)
		s.settings, err = r.authority.Settings(l, "director1")
		r.must("certify the director", err)
	}
	r.d, err = daemon.New(l, daemon.Options{
		Binary: os.Getenv("DIRECTOR"), Dir: r.files, Log: t.Output(), Plane: s.plane, Service: s.service, Settings: s.settings + "\n" + probes,
	})
	r.must("configure the director", err)
	ctx, cancel := context.WithTimeout(r.ctx, 2*time.Minute)
	defer cancel()
	r.must("start the director", r.d.Start(ctx))
	t.Logf("lab built in %s, director ready in %s more", seconds(built), seconds(time.Since(begin)-built))
	return r
}

// serve makes the service, the real servers and the sites' tunnels known, and waits until all real servers are alive.
func (r *rig) serve(sites ...*lab.Site) {
	r.Helper()
	ctx, cancel := context.WithTimeout(r.ctx, 2*time.Minute)
	defer cancel()
	r.must("apply", r.d.Apply(ctx))
	r.must("push", r.d.Push(ctx, sites...))
}

func (r *rig) must(act string, err error) {
	r.Helper()
	if err != nil {
		r.Fatalf("%s: %v", act, err)
	}
}

// sub is the rig for a subtest: what it says and fails is the subtest's.
func (r *rig) sub(t *testing.T) *rig {
	s := *r
	s.T = t
	return &s
}

// run runs a subtest that shares the rig, and ends the test if it fails: the next ones build on it.
func (r *rig) run(name string, test func(r *rig)) {
	r.Helper()
	if !r.Run(name, func(t *testing.T) { test(r.sub(t)) }) {
		r.FailNow()
	}
}

// until asks until there is no error, for so long at most.
func (r *rig) until(d time.Duration, what string, ask func() error) {
	r.Helper()
	ctx, cancel := context.WithTimeout(r.ctx, d)
	defer cancel()
	r.must(what, r.d.Until(ctx, ask))
}

// placed asks the director where a site's tunnel is.
func (r *rig) placed(s *lab.Site) *lab.RealServer {
	r.Helper()
	rs, _, err := r.d.Placed(r.ctx, s)
	r.must("ask where "+s.Name+" is", err)
	return rs
}

// placements are where sites are, by name.
func (r *rig) placements(sites ...*lab.Site) map[string]string {
	r.Helper()
	all := map[string]string{}
	for _, s := range sites {
		all[s.Name] = r.placed(s).Name
	}
	return all
}

// rest lets packets flow for a while: the wires have no virtual time.
func (r *rig) rest(d time.Duration) {
	select {
	case <-time.After(d):
	case <-r.ctx.Done():
	}
}
