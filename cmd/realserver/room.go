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
	"strconv"
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
	g.room.Space, g.room.Keep = g.space, func(r load.Room) error { return writeRoom(g.file, r) }
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

// writeRoom keeps what there is to put back. Where there is nothing there is no file.
func writeRoom(file string, r load.Room) error {
	if len(r.Sockets)+len(r.Devices) == 0 {
		if err := os.Remove(file); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	data, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	if err := os.WriteFile(file+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

// lowerAll puts back what sockets and devices had, also of real servers that have another name now or are not in the host's file any
// more: whichever process holds a socket. Those of a terminator that is gone went with it.
func lowerAll(ctx context.Context, cfg Config) (did []string, err error) {
	files, err := filepath.Glob(roomFile(cfg, "*"))
	if err != nil || len(files) == 0 {
		return nil, err
	}
	work := terminator.Work{Processes: processes()}
	var errs []error
	for _, file := range files {
		room, err := readRoom(file)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		done, err := room.Lower(ctx, work)
		did = append(did, done...)
		if errors.Is(err, fs.ErrNotExist) && room.Space != "" { // the namespace is gone, and all that was in it
			room, err = load.Room{}, nil
		}
		errs = append(errs, err, writeRoom(file, room))
	}
	return did, errors.Join(errs...)
}

// processes are all of this machine.
func processes() (pids []int) {
	dirs, err := os.ReadDir("/proc")
	if err != nil { // there are none that could be reached
		return nil
	}
	for _, d := range dirs {
		if pid, err := strconv.Atoi(d.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}
