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
	"os/signal"
	"os/user"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sync/errgroup"

	"tunneldirector/affinity/badgerstore"
	"tunneldirector/cmd/console"
	loop "tunneldirector/director"
	"tunneldirector/director/api"
	"tunneldirector/director/config"
	"tunneldirector/director/journal"
	"tunneldirector/director/plane"
)

const configFlag = "config"

func configFileFlag() cli.Flag {
	return &cli.StringFlag{Name: configFlag, Aliases: []string{"c"}, Value: "/etc/tunneldirector/director.yaml", Usage: "the node's `FILE`", EnvVars: []string{"TUNNELDIRECTOR_CONFIG"}}
}

func runCommand() *cli.Command {
	return &cli.Command{
		Name: "run", Usage: "be a director",
		Description: console.Describe(`
Reads the node's file, loads the table from disk, makes the kernel forward by it, holds the VIPs and serves
the API until SIGTERM or SIGINT. When the daemon ends, for whatever reason, forwarding goes on; the next
start adopts what it finds. director uninstall takes it out of the kernel.`,
			"director run --config /etc/tunneldirector/director.yaml"),
		Flags: []cli.Flag{configFileFlag()},
		Action: func(c *cli.Context) error {
			cfg, err := config.Read(c.String(configFlag))
			if err != nil {
				return err
			}
			tokens, err := readTokens(cfg)
			if err != nil {
				return err
			}
			if err := machineError(cfg, likely(cfg).kind); err != nil {
				return err
			}
			// Nothing was touched up to here.
			ctx, stop := signal.NotifyContext(c.Context, syscall.SIGTERM, os.Interrupt)
			defer stop()
			err = run(ctx, cfg, tokens, newLogger(cfg.Log, c.App.ErrWriter))
			if errors.Is(err, errAgain) {
				return startAgain()
			}
			return err
		},
	}
}

func readTokens(cfg config.Config) (api.Tokens, error) {
	if cfg.API.TokensFile == "" {
		return nil, nil
	}
	return config.ReadTokens(cfg.API.TokensFile)
}

func newLogger(c config.Log, w io.Writer) *slog.Logger {
	o := &slog.HandlerOptions{Level: c.Level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// gcPercent trades processor time, of which the control plane has plenty, for memory: the table is most of the heap and
// seldom changes.
const gcPercent = 50

// run is the daemon. A store that turns out to be an old copy of itself is moved aside, and the daemon begins again with an
// empty one, which the other directors fill.
func run(ctx context.Context, cfg config.Config, tokens api.Tokens, log *slog.Logger) error {
	for _, w := range cfg.Warnings() {
		log.Warn("configuration", "says", w)
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	err := runOnce(ctx, cfg, tokens, log)
	if !errors.Is(err, errOldCopy) {
		return err
	}
	log.Error("the store is moved aside", "why", err)
	if err := startAnew(cfg, log); err != nil {
		return err
	}
	return runOnce(ctx, cfg, tokens, log)
}

// startAnew moves the store aside. What comes in its place is empty, and so never too old.
func startAnew(cfg config.Config, log *slog.Logger) error {
	to, err := badgerstore.MoveAside(cfg.DataDir, time.Now())
	if err != nil {
		return err
	}
	openMemory(cfg.DataDir, log).touch()
	log.Warn("the table is fetched from the other directors; what was here is kept", "in", to)
	return nil
}

// leaveWithin is how long a daemon that stops waits for others to take its addresses over.
const leaveWithin = 2 * time.Second

// runOnce runs until asked ends, or something fails.
func runOnce(asked context.Context, cfg config.Config, tokens api.Tokens, log *slog.Logger) (err error) {
	ctx, stop := context.WithCancel(context.WithoutCancel(asked))
	defer stop()
	own, err := openFaults(ctx, cfg, log) // what an earlier run made on purpose may be in the way of all that follows
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, own.ledger.Close()) }()
	disk, err := badgerstore.Open(ctx, badgerstore.Options{Dir: cfg.DataDir, Reserve: int64(cfg.Store.Reserve), Logger: log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, disk.Close()) }()
	stored, err := loop.Load(store{disk})
	if err != nil {
		return err
	}
	events, err := journal.Open(journal.Options{Dir: filepath.Join(cfg.DataDir, "journal"), MaxSize: int64(cfg.Journal.MaxSize), MaxAge: cfg.Journal.MaxAge, Director: cfg.Name, Log: log})
	if err != nil {
		return fmt.Errorf("open the journal of events, in data_dir: %w; give the disk room, or move the directory journal away", err)
	}
	defer func() { err = errors.Join(err, events.Close()) }()
	events.Note("director", cfg.Name, "starts: version "+console.Version())
	defer func() { events.Note("director", cfg.Name, stopWords(err)) }()
	kernel, err := openKernel(cfg, stored, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, kernel.close()) }()
	agents, err := openAgents(cfg, log)
	if err != nil {
		return err
	}
	others, err := openJoined(cfg, disk, log)
	if err != nil {
		return err
	}
	drops, dropsLack := openBox(cfg, kernel.plane, events, log)
	alarms := func() []string {
		return slices.Concat(agents.alarms(), events.Alarms(), others.alarms(), drops.alarms(), dropsLack)
	}
	o := loop.Options{Agents: agents.book, Alarms: alarms, Journal: journalOf(events, drops), Name: cfg.Name, Version: console.Version(), Plane: kernel.plane, PlaneKind: kernel.choice.kind,
		PlaneBy: kernel.choice.by, PlaneWhy: kernel.choice.why, Supplant: kernel.supplant, PlaneDetail: kernel.detail, PlaneWarnings: kernel.warns, Host: kernel.host, Prober: kernel.prober, MaxEndpoints: int(cfg.Limits.MaxPins), MaxSubnets: int(cfg.Limits.MaxSubnets), Log: log}
	if kernel.probes != nil {
		o.NextHop = kernel.nextHop
	}
	var peers *several
	if others != nil {
		if agents.own != nil && agents.renew == nil {
			agents.renew = others.renewal()
		}
		defer others.close()
		o.Peers, o.Rank, o.Expects = others, cfg.Cluster.Rank, others.expects()
		o.HoldAll, o.PreemptAfter = cfg.Cluster.AddressesAll, cfg.Cluster.PreemptAfter
	}
	d, err := loop.Open(ctx, stored, o)
	if err != nil {
		return err
	}
	var answering api.Director = d
	if others != nil {
		others.local.Director = d // before its loop turns, and asks how the others stand
		peers = &several{d, others}
		answering = peers
	}
	own.begin(d, peers, events)
	drills := newFaults(cfg, own, d, agents.book, others, events)
	exam := newExaminer(cfg, d, kernel, agents, peers, events, drills)
	if others != nil {
		others.examiner.Store(exam)
	}
	kernel.report(d.Report)
	kernel.turns(d.Turns)
	if kernel.ear != nil && agents.book != nil {
		kernel.ear(agents.book.Heard, agents.book.Flooded)
	}
	served := api.Options{Name: cfg.Name, Version: console.Version(), Tokens: tokens, Log: log, MaxDeletePercent: cfg.Limits.MaxDelete, Examiner: exam, Journal: events, Drills: drills, Certificates: certificates(cfg, agents, others)}
	if drops != nil {
		drops.table = d.Table
		served.BlackBox = drops
	}
	server := api.New(answering, served)
	listeners, err := listen(cfg.API)
	if err != nil {
		return err
	}
	var again error
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return disk.Run(ctx) })
	g.Go(func() error { return events.Run(ctx) })
	g.Go(func() error { return events.WatchAlarms(ctx, alarmsOf(d)) })
	g.Go(func() error { return kernel.run(ctx) })
	g.Go(func() error { return d.Run(ctx) })
	g.Go(func() error { return server.Serve(ctx, listeners) })
	g.Go(func() error { return tidy(ctx, d) })
	g.Go(func() error { return agents.serve(ctx, d, log) })
	g.Go(func() error { return drills.run(ctx) })
	if drops != nil {
		g.Go(func() error { return drops.Run(ctx) })
	}
	making, unmake := context.WithCancel(ctx)
	defer unmake()
	unmade := make(chan struct{})
	g.Go(func() error { defer close(unmade); return own.ledger.Run(making) })
	if others != nil {
		g.Go(func() error { return others.run(ctx) })
	}
	g.Go(func() error {
		select {
		case <-ctx.Done():
			return nil
		case <-asked.Done():
		case <-own.restart:
			again = errAgain
		}
		unmake() // while all that it takes is there
		<-unmade
		if peers != nil {
			soon, cancel := context.WithTimeout(ctx, leaveWithin)
			defer cancel()
			if err := peers.Leave(soon); err != nil && !errors.Is(err, api.ErrLeft) {
				log.Warn("leave the other directors", "error", err)
			}
		}
		stop()
		return nil
	})
	if cfg.Metrics.Listen != "" {
		g.Go(func() error { return serveMetrics(ctx, cfg.Metrics.Listen, server.Metrics()) })
	}
	log.Info("director runs", "name", cfg.Name, "version", console.Version(), "plane", kernel.choice.kind, "api", addresses(listeners))
	if err = g.Wait(); asked.Err() == nil { // else it was told to stop meanwhile
		err = errors.Join(err, again)
	}
	log.Info("director stops; the kernel goes on forwarding", "starts again", errors.Is(err, errAgain))
	return err
}

// tidy gives memory back to the system when a start or a large push is over: what they leave behind is worth half a table.
func tidy(ctx context.Context, d *loop.Director) error {
	const worth = 20_000 // changes
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var tidied, before uint64
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now := d.Table().Revision()
		if now == before && now-tidied >= worth {
			debug.FreeOSMemory()
			tidied = now
		}
		before = now
	}
}

func addresses(listeners []net.Listener) []string {
	var out []string
	for _, l := range listeners {
		out = append(out, l.Addr().String())
	}
	return out
}

// serveMetrics answers /metrics on an address of its own.
func serveMetrics(ctx context.Context, address string, h http.Handler) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", h)
	s := &http.Server{Addr: address, Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	if err := s.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve metrics on %s: %w", address, err)
	}
	return nil
}

// listen opens what the API is served on. A unix socket left behind by a dead director is replaced, a living one's is not.
func listen(c config.API) ([]net.Listener, error) {
	var out []net.Listener
	fail := func(err error) ([]net.Listener, error) {
		for _, l := range out {
			_ = l.Close()
		}
		return nil, err
	}
	if c.Socket.Path != "" {
		l, err := listenUnix(c.Socket)
		if err != nil {
			return fail(err)
		}
		out = append(out, l)
	}
	for _, address := range c.Listen {
		l, err := listenTCP(address, c.TLS)
		if err != nil {
			return fail(err)
		}
		out = append(out, l)
	}
	return out, nil
}

func listenUnix(s config.Socket) (net.Listener, error) {
	if c, err := net.Dial("unix", s.Path); err == nil {
		_ = c.Close()
		return nil, fmt.Errorf("listen on %s: another director answers there; stop it first, or give this one another api.socket.path", s.Path)
	}
	if err := os.MkdirAll(filepath.Dir(s.Path), 0o755); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", s.Path, err)
	}
	if err := os.Remove(s.Path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("listen on %s: %w", s.Path, err)
	}
	old := syscall.Umask(0o177) // nobody else until the mode is set
	l, err := net.Listen("unix", s.Path)
	syscall.Umask(old)
	if err != nil {
		return nil, err
	}
	if s.Group != "" {
		err = chgrp(s.Path, s.Group)
	}
	if err = errors.Join(err, os.Chmod(s.Path, os.FileMode(s.Mode))); err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("listen on %s: %w", s.Path, err)
	}
	return l, nil
}

func chgrp(path, group string) error {
	g, err := user.LookupGroup(group)
	if err != nil {
		return err
	}
	gid, err := strconv.Atoi(g.Gid)
	if err != nil {
		return err
	}
	return os.Chown(path, -1, gid)
}

// planeInterfaces are the configured interfaces as the planes know them.
func planeInterfaces(list []config.Interface) []plane.Interface {
	roles := map[string]plane.Role{config.RoleTunnel: plane.RoleTunnel, config.RoleSubnet: plane.RoleSubnet, config.RoleRealServers: plane.RoleRealServers}
	var out []plane.Interface
	for _, i := range list {
		p := plane.Interface{Name: i.Name, Tenant: i.Tenant, VLANs: i.VLANs}
		for _, r := range i.Roles {
			p.Roles |= roles[r]
		}
		out = append(out, p)
	}
	return slices.Clip(out)
}
