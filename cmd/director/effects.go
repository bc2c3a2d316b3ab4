package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"tunneldirector/affinity"
	"tunneldirector/cluster"
	loop "tunneldirector/director"
	"tunneldirector/director/api"
	"tunneldirector/director/config"
	"tunneldirector/director/drill"
	"tunneldirector/director/drill/fault"
)

// begins is after what time a failure begins that keeps this director from answering who asked for it, and its journal from being
// written: both are done by then.
const begins = 300 * time.Millisecond

// ownFaults are the failures that this director carries out. Its ledger is opened before anything else of the daemon, which may need
// that what an earlier run has left is undone.
type ownFaults struct {
	cfg     config.Config
	ledger  *fault.Ledger
	log     *slog.Logger
	restart chan struct{}          // poked when the daemon is to stop, and to start again
	outage  atomic.Pointer[string] // why no pushes are taken; nil: they are

	mu      sync.Mutex // guards what follows
	journal loop.Journal
	early   []api.Event // that happened before there was a journal
	d       *loop.Director
	peers   *several          // nil: alone
	asked   map[string]string // who had it undone, by id
	pending map[string]*time.Timer
	left    bool // this run has left the others, for a drill
}

// openFaults undoes what an earlier run has left.
func openFaults(ctx context.Context, cfg config.Config, log *slog.Logger) (*ownFaults, error) {
	o := &ownFaults{cfg: cfg, log: log, restart: make(chan struct{}, 1), asked: map[string]string{}, pending: map[string]*time.Timer{}}
	effects := fault.Effects{}
	for _, make := range []func(made) fault.Effect{
		func(m made) fault.Effect { return &crash{m} }, func(m made) fault.Effect { return &hang{m} }, func(m made) fault.Effect { return &restart{m} },
		func(m made) fault.Effect { return &cutOff{made: m} }, func(m made) fault.Effect { return &leave{m} }, func(m made) fault.Effect { return &fill{made: m} },
		func(m made) fault.Effect { return &outage{m} }, func(m made) fault.Effect { return &emptied{m} },
	} {
		effects[make(made{}).Name()] = func() fault.Effect { return make(made{o: o}) }
	}
	var err error
	o.ledger, err = fault.Open(ctx, filepath.Join(cfg.DataDir, "faults"), effects, log)
	return o, err
}

// begin tells of what is there only after the ledger was opened.
func (o *ownFaults) begin(d *loop.Director, peers *several, journal loop.Journal) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.d, o.peers, o.journal = d, peers, journal
	journal.Record(o.early)
	o.early = nil
}

// inject makes a failure.
func (o *ownFaults) inject(ctx context.Context, by string, f drill.Fault) error {
	e, err := o.effect(f)
	if err != nil {
		return err
	}
	return o.ledger.Inject(ctx, fault.Fault{ID: f.ID, Kind: string(f.Kind), Target: f.Target, By: by, For: f.For, Effect: e})
}

// undo ends one.
func (o *ownFaults) undo(ctx context.Context, by, id string) error {
	o.mu.Lock()
	o.asked[id] = by
	o.mu.Unlock()
	return o.ledger.Undo(ctx, id)
}

func (o *ownFaults) list() (out []api.FaultInPlace) {
	for _, s := range o.ledger.List() {
		out = append(out, api.FaultInPlace{ID: s.ID, Kind: s.Kind, Target: s.Target, Director: o.cfg.Name, By: s.By, At: s.Made, Until: s.Until, Error: s.Error})
	}
	return out
}

// effect is what a failure does here, if that can be done and taken back.
func (o *ownFaults) effect(f drill.Fault) (fault.Effect, error) {
	m := made{Kind: string(f.Kind), Target: f.Target, o: o}
	no := func(problem, remedy string) error {
		return refuse(http.StatusConflict, f.Target+" is spared", "kind", string(f.Kind), problem, remedy)
	}
	switch f.Kind {
	case drill.DirectorCrash:
		if !o.cfg.Drill.Restarted && os.Getenv("SYSTEMD_EXEC_PID") != strconv.Itoa(os.Getpid()) {
			return nil, no("nobody is known to start the daemon again", "have systemd run it, or set drill.restarted in its node's file if something else does")
		}
		return &crash{m}, nil
	case drill.DirectorHang:
		if o.peers != nil && !o.hasOthers() {
			return nil, no(noOthers, "a drill when they are back")
		}
		return &hang{m}, nil
	case drill.DirectorRestart:
		return &restart{m}, nil
	case drill.Partition, drill.VIPMove:
		if o.peers == nil {
			return nil, no("it is alone: there are no other directors", "a drill of one director, or of a real server")
		}
		if !o.hasOthers() {
			return nil, no(noOthers, "a drill when they are back")
		}
		if f.Kind == drill.VIPMove {
			return &leave{m}, nil
		}
		return o.cutOff(m), nil
	case drill.DiskFull:
		return &fill{made: m, Ballast: fault.Ballast{Dir: o.cfg.DataDir, Rest: int64(o.cfg.Store.Reserve / 2)}}, nil
	case drill.NMSOutage:
		return &outage{m}, nil
	case drill.Drain:
		if rs, ok := o.d.Table().RealServer(f.Target); ok && rs.Admin == affinity.Drained {
			return nil, no("it is drained already", "director realserver undrain "+f.Target)
		}
		return &emptied{m}, nil
	}
	return nil, no("a director does not do this", "one of the kinds in director drill --help")
}

const noOthers = "no other director is alive to take over"

// hasOthers tells whether another director of the cluster is alive.
func (o *ownFaults) hasOthers() bool {
	return slices.ContainsFunc(o.peers.j.beater.View().Peers, func(p cluster.Peer) bool { return p.Alive })
}

// made is what all effects have in common.
type made struct {
	Kind, Target string
	o            *ownFaults
}

// undone records the end of a failure.
func (m *made) undone(id string) {
	m.o.mu.Lock()
	defer m.o.mu.Unlock()
	by, why := m.o.asked[id], "undone ("+id+")"
	if by == "" {
		why = "undone by itself (" + id + ")"
	}
	delete(m.o.asked, id)
	m.o.log.Info("a failure that was made on purpose is undone", "kind", m.Kind, "target", m.Target, "id", id, "by", by)
	event := api.Event{Time: time.Now(), Kind: "fault", Object: m.Target, From: m.Kind, Why: why, By: by}
	if m.o.journal == nil {
		m.o.early = append(m.o.early, event)
		return
	}
	m.o.journal.Record([]api.Event{event})
}

// delay is after what time a failure of a kind begins.
func delay(k drill.Kind) time.Duration {
	switch k {
	case drill.DirectorCrash, drill.DirectorHang, drill.DirectorRestart, drill.Partition:
		return begins
	}
	return 0
}

// soon does what begins later, unless it is called off.
func (o *ownFaults) soon(id string, do func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.pending[id] = time.AfterFunc(begins, func() {
		o.mu.Lock()
		_, wanted := o.pending[id]
		delete(o.pending, id)
		o.mu.Unlock()
		if wanted {
			do()
		}
	})
}

// callOff is for what has not begun.
func (o *ownFaults) callOff(id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if t := o.pending[id]; t != nil {
		t.Stop()
	}
	delete(o.pending, id)
}

// errAgain ends a daemon that is to start again, as a service manager would have it.
var errAgain = errors.New("the daemon starts again")

// startAgain puts a fresh process in the place of this one: the program that is on the disk now.
func startAgain() error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("start the daemon again: %w", err)
	}
	return fmt.Errorf("start the daemon again: %s: %w", self, syscall.Exec(self, os.Args, os.Environ()))
}

// again has the daemon stop, and start again.
func (o *ownFaults) again() {
	select {
	case o.restart <- struct{}{}:
	default:
	}
}

// emptied lets a real server take no new tunnels, and empties it as fast as a drain may.
type emptied struct{ made }

func (*emptied) Name() string { return "drained" }

// asFast is the rate of a drill's drain, in tunnels in 1000 s.
const asFast = 1_000_000

// Do drains it.
func (e *emptied) Do(ctx context.Context, _ string, _ time.Duration) error {
	return e.set(ctx, affinity.Drained, &affinity.Drain{Milli: asFast})
}

// Undo lets it take tunnels again, unless it is gone, or drained by somebody else since: for a repair, while this director was dead.
func (e *emptied) Undo(ctx context.Context, id string) error {
	d := e.director()
	if d == nil {
		return fmt.Errorf("real server %s is drained still: the daemon is starting", e.Target)
	}
	if rs, there := d.Table().RealServer(e.Target); there && asDrilled(rs) {
		if err := e.set(ctx, affinity.Active, nil); err != nil {
			return err
		}
	}
	e.undone(id)
	return nil
}

// asDrilled tells whether a real server is drained as Do does it.
func asDrilled(rs *affinity.RealServer) bool {
	return rs.Admin == affinity.Drained && rs.Drain != nil && rs.Drain.Milli == asFast && rs.Drain.By == 0
}

func (e *emptied) director() *loop.Director {
	e.o.mu.Lock()
	defer e.o.mu.Unlock()
	return e.o.d
}

func (e *emptied) set(ctx context.Context, admin affinity.Admin, how *affinity.Drain) error {
	d := e.director()
	if d == nil {
		return errors.New("the daemon is starting")
	}
	results, err := d.Do(ctx, []affinity.Op{affinity.SetAdmin{By: affinity.Actor{Name: "drill", Any: true}, Name: e.Target, Admin: admin, Drain: how}})
	if err == nil {
		err = results[0].Err
	}
	return err
}

// outage has the API take nothing from the NMS.
type outage struct{ made }

func (*outage) Name() string { return "outage" }

// Do has faults.Outage say so.
func (e *outage) Do(_ context.Context, id string, lasts time.Duration) error {
	e.o.outage.Store(new("drill " + id + " rehearses an outage until " + time.Now().Add(lasts).UTC().Format(time.RFC3339)))
	return nil
}

// Undo ends that.
func (e *outage) Undo(_ context.Context, id string) error {
	e.o.outage.Store(nil)
	e.undone(id)
	return nil
}
