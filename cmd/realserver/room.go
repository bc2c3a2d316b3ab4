package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"tunneldirector/director/agent"
	"tunneldirector/realserver/load"
	"tunneldirector/realserver/space"
	"tunneldirector/realserver/terminator"
)

// raiseEvery is how often sockets and devices are looked at that the terminator may have made anew under the same numbers.
const raiseEvery = time.Minute

// A gauge measures a terminator, and gives its sockets and devices the room that the configuration wants. What they had is on disk
// before it is needed: revert puts it back. One goroutine uses it.
type gauge struct {
	*load.Meter
	want  load.Want
	file  string // of what they had
	space space.Space
	log   *slog.Logger

	room   load.Room
	loaded bool
	last   terminator.Work
	at     time.Time
	told   string
}

func newGauge(cfg Config, s *RealServer, log *slog.Logger) *gauge {
	return &gauge{
		Meter: load.New(load.Options{Space: space.Space(s.Namespace), CPUCeiling: float64(s.CPUCeiling) / 100, Capacity: s.Capacity}),
		want:  load.Want{ReceiveBuffer: int(s.Room.ReceiveBuffer), Queue: s.Room.Queue}, file: roomFile(cfg, s.Name),
		space: space.Space(s.Namespace), log: log.With("realserver", s.Name),
	}
}

func roomFile(cfg Config, realServer string) string {
	return filepath.Join(cfg.StateDir, "room-"+realServer+".json")
}

// Sample is realserver.Meter's.
func (g *gauge) Sample(ctx context.Context, work terminator.Work, tunnels uint32) (agent.Load, error) {
	if g.want != (load.Want{}) && (!sameWork(work, g.last) || time.Since(g.at) > raiseEvery) {
		g.last, g.at = work, time.Now()
		g.raise(ctx, work)
	}
	return g.Meter.Sample(ctx, work, tunnels)
}

func sameWork(a, b terminator.Work) bool {
	return slices.Equal(a.Processes, b.Processes) && slices.Equal(a.Sockets, b.Sockets) && slices.Equal(a.Devices, b.Devices)
}

func (g *gauge) raise(ctx context.Context, work terminator.Work) {
	if !g.loaded {
		room, err := readRoom(g.file)
		if err != nil {
			g.log.Warn("what sockets had is not known; they keep what they have", "error", err)
			g.want = load.Want{}
			return
		}
		g.room, g.loaded = room, true
	}
	g.room.Space = g.space
	did, err := g.room.Raise(ctx, work, g.want)
	for _, d := range did {
		g.log.Info("room raised", "what", d)
	}
	if len(did) > 0 {
		err = errors.Join(err, writeRoom(g.file, g.room))
	}
	if err != nil && err.Error() != g.told && ctx.Err() == nil {
		g.told = err.Error()
		g.log.Warn("not all sockets and devices have the room that is wanted", "error", err)
	}
}

func readRoom(file string) (r load.Room, err error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &r)
	}
	if err != nil {
		err = fmt.Errorf("read %s: %w", file, err)
	}
	return r, err
}

func writeRoom(file string, r load.Room) error {
	data, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	if err := os.WriteFile(file+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

// lower puts back what sockets and devices of a real server had.
func lower(ctx context.Context, cfg Config, s *RealServer, t terminator.Terminator) (did []string, err error) {
	file := roomFile(cfg, s.Name)
	room, err := readRoom(file)
	w, ok := t.(terminator.Worker)
	if err != nil || !ok || len(room.Sockets)+len(room.Devices) == 0 {
		return nil, err
	}
	work, err := w.Work(ctx)
	if err != nil {
		return nil, fmt.Errorf("room of %s: %w", s.Name, err)
	}
	did, err = room.Lower(ctx, work)
	return did, errors.Join(err, writeRoom(file, room))
}
