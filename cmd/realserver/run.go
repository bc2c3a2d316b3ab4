package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sync/errgroup"

	"tunneldirector/cluster/ca"
	"tunneldirector/cmd/console"
	"tunneldirector/director/agent"
	"tunneldirector/realserver"
	"tunneldirector/realserver/host"
)

func runCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "run", Usage: "be the agent of this host",
		Description: console.Describe(`
Reads the host's file, looks after the terminators that it names and speaks to the directors, until
SIGTERM or SIGINT. When it ends, for whatever reason, nothing changes: tunnels stay, the host stays
as it is prepared, and directors check the real servers as those without an agent. Faults that were
made for a drill are undone when it ends, or when it starts again.

The host is made right for its forwarding methods, and kept so, only with prepare_host: true. Else
what is not right is logged; `+"`realserver apply`"+` does it once.`,
			"realserver run --config /etc/tunneldirector/realserver.yaml"),
		Flags: []cli.Flag{configFlag()},
		Action: configured(func(c *cli.Context, cfg Config) error {
			log := newLogger(cfg.Log, env.Stderr)
			d, err := newDaemon(cfg, log)
			if err != nil {
				return err
			}
			// Nothing was touched up to here.
			return d.run(c.Context)
		}),
	}
}

func newLogger(c Log, w io.Writer) *slog.Logger {
	o := &slog.HandlerOptions{Level: c.Level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// A daemon is the agent with all that it is put together from.
type daemon struct {
	cfg     Config
	log     *slog.Logger
	host    *host.Host
	own     *ca.Credential
	agent   *realserver.Agent
	answers *answers
	drills  *drills
}

// newDaemon puts it together, and touches nothing.
func newDaemon(cfg Config, log *slog.Logger) (*daemon, error) {
	d := &daemon{cfg: cfg, log: log, answers: newAnswers(cfg, log), drills: &drills{cfg: cfg, log: log}}
	var err error
	if d.host, err = hostOf(cfg); err != nil {
		return nil, err
	}
	if d.own, err = openCredential(cfg, log); err != nil {
		return nil, err
	}
	instances, err := instancesOf(cfg)
	if err != nil {
		return nil, err
	}
	for i := range instances {
		instances[i].Meter = newGauge(cfg, &cfg.RealServers[i], log)
	}
	o := realserver.Options{Host: cfg.Host, Version: console.Version(), Instances: instances, Answer: d.answers.set, Flooded: d.answers.flooded, Tend: d.tend, Examine: d.examine, Faults: d.drills, Look: cfg.Look,
		Adopt: realserver.Pace{Rate: float64(cfg.Adopt.Rate), Burst: cfg.Adopt.Burst, Retries: cfg.Adopt.Retries}, Log: log,
		Dial: newCaller(cfg, d.own.ClientConfig(ca.RoleDirector, agent.Protocol)).dial}
	for _, a := range cfg.Directors {
		o.Directors = append(o.Directors, a.String())
	}
	d.agent = realserver.New(o)
	return d, nil
}

func openCredential(cfg Config, log *slog.Logger) (*ca.Credential, error) {
	own, err := ca.Open(ca.Files{Cert: cfg.TLS.Cert, Key: cfg.TLS.Key, CA: cfg.TLS.CA}, ca.RoleAgent, cfg.Host, log)
	if err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	return own, nil
}

func (d *daemon) run(ctx context.Context) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(realserver.GCPercent)
	}
	if err := os.MkdirAll(d.cfg.StateDir, 0o700); err != nil {
		return fmt.Errorf("make state_dir: %w", err)
	}
	l, err := listen(d.cfg.Socket)
	if err != nil {
		return err
	}
	defer d.drills.open(ctx)()
	d.answers.begin()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return serve(ctx, l, d.agent.Handler()) })
	g.Go(func() error { return d.answers.run(ctx) })
	g.Go(func() error { return d.agent.Run(ctx) })
	g.Go(func() error { return d.drills.run(ctx) })
	g.Go(func() error { return d.renewer().Run(ctx) })
	d.log.Info("agent runs", "host", d.cfg.Host, "version", console.Version(), "realservers", len(d.cfg.RealServers), "directors", d.cfg.Directors, "prepares_host", d.cfg.PrepareHost)
	err = g.Wait()
	d.log.Info("agent stops; tunnels and host stay as they are")
	return err
}

// tend keeps the host as it has to be, or says that it is not; that the certificate is about to end, and that faults cannot be undone.
func (d *daemon) tend(ctx context.Context) error {
	err := errors.Join(d.tendHost(ctx), d.drills.broken)
	if a := d.own.Alarm(); a != "" {
		err = errors.Join(err, errors.New(a))
	}
	return err
}

func (d *daemon) tendHost(ctx context.Context) error {
	if !d.cfg.PrepareHost {
		changes, err := d.host.Plan(ctx)
		if n := toDo(changes); n > 0 && err == nil {
			err = fmt.Errorf("%s to make, the first: %s; `realserver plan` shows all, `realserver apply` makes them", console.Some(n, "change"), changes[slices.IndexFunc(changes, func(c host.Change) bool { return !c.Left })])
		}
		return err
	}
	changes, err := d.host.Apply(ctx)
	for _, c := range changes {
		if !c.Left {
			d.log.Info("host changed", "object", c.Object, "from", c.From, "to", c.To, "why", c.Why, "namespace", string(c.Space))
		}
	}
	return err
}

// examine is what `realserver doctor` finds, for directors. What could not be looked at is nothing that they could mend.
func (d *daemon) examine(ctx context.Context) map[string][]agent.Finding {
	list, err := d.host.Doctor(ctx)
	if err != nil && ctx.Err() == nil {
		d.log.Debug("look for what is wrong with the host", "error", err)
	}
	out := map[string][]agent.Finding{}
	for _, f := range list {
		out[f.Instance] = append(out[f.Instance], agent.Finding{ID: f.ID, What: agent.Text(f.What), Causes: agent.Text(f.Causes), Remedy: agent.Text(f.Remedy), Severity: string(f.Severity)})
	}
	return out
}

// toDo is how many changes there are to make.
func toDo(list []host.Change) (n int) {
	for _, c := range list {
		if !c.Left {
			n++
		}
	}
	return n
}

// listen opens the socket that status asks. One that a dead daemon left is replaced, a living one's is not.
func listen(path string) (net.Listener, error) {
	if c, err := net.Dial("unix", path); err == nil {
		_ = c.Close()
		return nil, fmt.Errorf("listen on %s: another agent answers there; stop it first, or give this one another socket", path)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	old := syscall.Umask(0o117) // root and its group
	defer syscall.Umask(old)
	return net.Listen("unix", path)
}

// serve answers HTTP until ctx ends.
func serve(ctx context.Context, l net.Listener, h http.Handler) error {
	s := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: 30 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	}
	return nil
}
