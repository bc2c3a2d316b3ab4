package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"tunneldirector/director/drill"
	"tunneldirector/director/drill/fault"
	"tunneldirector/realserver"
)

// drills makes faults at this host's real servers. It is realserver.Faults.
type drills struct {
	cfg    Config
	log    *slog.Logger
	ledger *fault.Ledger // nil: it could not be opened
	broken error         // why
}

func ledgerOf(cfg Config) string { return filepath.Join(cfg.StateDir, "faults") }

// ledgerHeld is how long `realserver undo-faults` may have the ledger, and ledgerAgain how often an agent that begins looks for its end.
const (
	ledgerHeld  = fault.UndoLimit + 2*time.Second
	ledgerAgain = 100 * time.Millisecond
)

// open undoes what is left from before, whatever the file allows now; done lets go of the ledger. An agent whose ledger cannot be opened
// runs without drills: that must not keep directors from hearing of its real servers.
func (d *drills) open(ctx context.Context) (done func()) {
	for until := time.Now().Add(ledgerHeld); ; {
		d.ledger, d.broken = fault.Open(ctx, ledgerOf(d.cfg), fault.Known(), d.log)
		if !errors.Is(d.broken, fault.ErrHeld) || time.Now().After(until) || ctx.Err() != nil {
			break
		}
		select {
		case <-ctx.Done():
		case <-time.After(ledgerAgain):
		}
	}
	if d.broken != nil {
		d.log.Error("no drills, and faults of before are not undone", "error", d.broken)
		return func() {}
	}
	return func() {
		if err := d.ledger.Close(); err != nil {
			d.log.Warn("close the ledger of faults", "error", err)
		}
	}
}

func (d *drills) run(ctx context.Context) error {
	if d.ledger == nil {
		return nil
	}
	return d.ledger.Run(ctx)
}

// Plan is realserver.Faults's.
func (d *drills) Plan(ctx context.Context, w realserver.FaultWish) (realserver.FaultPlan, error) {
	switch {
	case !d.cfg.Drill.Allow:
		return realserver.FaultPlan{}, fmt.Errorf("drills are off on host %s; drill: {allow: true} in its file lets directors make faults there", d.cfg.Host)
	case d.ledger == nil:
		return realserver.FaultPlan{}, fmt.Errorf("faults could not be undone after a crash: %w", d.broken)
	}
	i := slices.IndexFunc(d.cfg.RealServers, func(s RealServer) bool { return s.Name == w.RealServer })
	if i < 0 {
		return realserver.FaultPlan{}, fmt.Errorf("real server %s is not of host %s", w.RealServer, d.cfg.Host)
	}
	e, err := d.effect(ctx, w, &d.cfg.RealServers[i])
	if err != nil {
		return realserver.FaultPlan{}, err
	}
	f := fault.Fault{ID: w.ID, Kind: w.Kind, Target: w.RealServer, By: w.By, For: time.Duration(w.Millis) * time.Millisecond, Effect: e}
	if err := d.ledger.May(ctx, f); err != nil {
		return realserver.FaultPlan{}, err
	}
	return realserver.FaultPlan{Make: func(ctx context.Context) error { return d.ledger.Inject(ctx, f) }, Mute: drill.Kind(w.Kind) == drill.HostLoss}, nil
}

// effect is what makes a fault at a real server.
func (d *drills) effect(ctx context.Context, w realserver.FaultWish, s *RealServer) (fault.Effect, error) {
	switch kind := drill.Kind(w.Kind); kind {
	case drill.TerminatorCrash:
		argv := d.cfg.Drill.Start[s.Name]
		if len(argv) == 0 {
			return nil, fmt.Errorf("nothing would start the terminator of %s again: drill.start.%s is not in the file of host %s", s.Name, s.Name, d.cfg.Host)
		}
		list, err := processesOf(ctx, w)
		return &fault.Killed{Processes: list, Start: argv, Space: s.Namespace}, err
	case drill.TerminatorHang:
		list, err := processesOf(ctx, w)
		return &fault.Stopped{Processes: list}, err
	case drill.HostLoss:
		return fault.HostLoss(d.spaces()...), nil
	case drill.LinkCut:
		if other, vip := d.shares(s); other != "" {
			return nil, fmt.Errorf("real server %s has VIP %s in the same network namespace: its link would be cut too", other, vip)
		}
		return fault.LinkCut(s.Namespace, s.VIPs...), nil
	default:
		return nil, fmt.Errorf("an agent makes faults %s, %s, %s and %s, and not %q", drill.TerminatorCrash, drill.TerminatorHang, drill.HostLoss, drill.LinkCut, w.Kind)
	}
}

func processesOf(ctx context.Context, w realserver.FaultWish) ([]fault.Process, error) {
	pids, err := w.Processes(ctx)
	if err != nil {
		return nil, err
	}
	if slices.Contains(pids, os.Getpid()) {
		return nil, fmt.Errorf("the terminator of %s is this agent's own process, and nobody would undo it", w.RealServer)
	}
	list, err := fault.Find(pids...)
	if err == nil && len(list) == 0 {
		err = fmt.Errorf("the terminator of %s does not run: no process of %v is there", w.RealServer, pids)
	}
	return list, err
}

// spaces are all network namespaces of this host that tunnels or this agent are in, its own first.
func (d *drills) spaces() []string {
	out := []string{""}
	for _, s := range d.cfg.RealServers {
		if !slices.Contains(out, s.Namespace) {
			out = append(out, s.Namespace)
		}
	}
	return out
}

// shares is another real server that the link of one is the link of, too.
func (d *drills) shares(s *RealServer) (other string, vip netip.Addr) {
	for _, o := range d.cfg.RealServers {
		if o.Name == s.Name || o.Namespace != s.Namespace {
			continue
		}
		if i := slices.IndexFunc(o.VIPs, func(a netip.Addr) bool { return slices.Contains(s.VIPs, a) }); i >= 0 {
			return o.Name, o.VIPs[i]
		}
	}
	return "", netip.Addr{}
}

// Undo is realserver.Faults's.
func (d *drills) Undo(ctx context.Context, id string) error {
	if d.ledger == nil {
		return d.broken
	}
	return d.ledger.Undo(ctx, id)
}

// InPlace is realserver.Faults's.
func (d *drills) InPlace() []realserver.FaultStatus {
	if d.ledger == nil {
		return nil
	}
	return faultsOf(d.ledger.List())
}

func faultsOf(list []fault.Standing) (out []realserver.FaultStatus) {
	for _, s := range list {
		out = append(out, realserver.FaultStatus{ID: s.ID, Kind: s.Kind, RealServer: s.Target, By: s.By, Made: s.Made, Until: s.Until, Error: s.Error})
	}
	return out
}
