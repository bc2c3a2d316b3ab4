package journal

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"tunneldirector/director/api"
)

// Options are what a Journal is told once.
type Options struct {
	Dir      string // made if it is not there
	MaxSize  int64  // bytes of all files; 0: 256 MiB
	MaxAge   time.Duration
	Director string // who keeps it
	Log      *slog.Logger
	Now      func() time.Time // nil: time.Now
}

const (
	// maxPending is how many events may wait to be written.
	maxPending = 20_000
	// every is how often they are.
	every = 200 * time.Millisecond
	// sumsFor is what time events are added up over.
	sumsFor = time.Second
)

// A Journal is the events on disk, and those that are on their way there.
type Journal struct {
	o     Options
	files *files // of who writes: Run, then Close

	mu      sync.Mutex // guards what follows
	sieve   sieve
	pending []api.Recorded
	lost    map[string]uint64 // by kind, not told yet
	stats   api.JournalStats
	changed chan struct{}
	problem string // why nothing is written; "" if it is
}

// Open makes the directory if need be, and ends a line that a crash has torn.
func Open(o Options) (*Journal, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.MaxSize == 0 {
		o.MaxSize = 256 << 20
	}
	if o.MaxAge == 0 {
		o.MaxAge = 90 * 24 * time.Hour
	}
	f, torn, err := openFiles(o.Dir, o.MaxSize, o.MaxAge, o.Now())
	if err != nil {
		return nil, fmt.Errorf("open the journal: %w", err)
	}
	j := &Journal{o: o, files: f, sieve: newSieve(), lost: map[string]uint64{}, changed: make(chan struct{}),
		stats: api.JournalStats{Events: map[string]uint64{}, Moves: map[string]uint64{}, Size: uint64(f.size()), Writable: true}}
	if torn > 0 {
		o.Log.Warn("the journal's last line was torn", "bytes", torn, "dir", o.Dir)
		j.Note("journal", o.Director, fmt.Sprintf("the line before this one was torn by a crash and is skipped: %d bytes", torn))
	}
	return j, nil
}

// Record takes events that have happened. It never waits for the disk.
func (j *Journal) Record(events []api.Event) {
	now := j.o.Now()
	j.mu.Lock()
	defer j.mu.Unlock()
	for i := range events {
		e := &events[i]
		j.count(e)
		switch {
		case !j.sieve.passes(e, now):
		case len(j.pending) >= maxPending:
			j.lose(e.Kind, 1)
		default:
			j.pending = append(j.pending, api.Recorded{Time: e.Time, Kind: e.Kind, Object: e.Object, From: e.From, To: e.To, Backup: e.Backup, Why: e.Why, By: e.By})
		}
	}
}

// Note records what is no change of the table.
func (j *Journal) Note(kind, object, why string) {
	j.Record([]api.Event{{Time: j.o.Now(), Kind: kind, Object: object, Why: why}})
}

// count is called with mu held.
func (j *Journal) count(e *api.Event) {
	j.stats.Events[e.Kind]++
	switch {
	case e.Kind == "moved":
		j.stats.Moves[cause(e.Why)]++
	case e.Kind == "provisional" && e.To == "dead":
		j.stats.Provisional++
	}
}

// lose is called with mu held.
func (j *Journal) lose(kind string, n uint64) {
	j.lost[kind] += n
	j.stats.Lost += n
}

// Run writes until ctx ends.
func (j *Journal) Run(ctx context.Context) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			j.flush(false)
		}
	}
}

// Close writes what has come, and ends the file. Run has ended.
func (j *Journal) Close() error {
	j.flush(true)
	if err := j.files.close(); err != nil {
		return fmt.Errorf("close the journal: %w", err)
	}
	return nil
}

// flush writes what waits; sums, too, if their time is over or this is the end.
func (j *Journal) flush(end bool) {
	now := j.o.Now()
	lines, lost := j.take(now, end)
	j.files.expire(now)
	if len(lines) == 0 {
		j.mu.Lock()
		j.stats.Size = uint64(j.files.size())
		j.mu.Unlock()
		return
	}
	var buf []byte
	for i := range lines {
		buf = append(append(buf, encode(&lines[i])...), '\n')
	}
	err := j.files.write(buf, now)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.stats.Size, j.stats.Writable = uint64(j.files.size()), err == nil
	was := j.problem
	if err == nil {
		j.problem = ""
		close(j.changed)
		j.changed = make(chan struct{})
		if was != "" {
			j.o.Log.Info("the journal is written again")
		}
		return
	}
	j.problem = err.Error()
	for kind, n := range lost { // were counted before
		j.lost[kind] += n
	}
	for i := range lines {
		if lines[i].Kind != "journal" {
			j.lose(lines[i].Kind, max(1, lines[i].Count))
		}
	}
	if was == "" {
		j.o.Log.Error("the journal cannot be written, and events are lost", "error", err)
	}
}

// take is what is to be written, and which losses are told in it.
func (j *Journal) take(now time.Time, end bool) (lines []api.Recorded, lost map[string]uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.lost) > 0 {
		lost = j.lost
		j.lost = map[string]uint64{}
		lines = append(lines, api.Recorded{Time: now, Kind: "journal", Object: j.o.Director, Why: lostWords(lost, j.problem)})
	}
	lines = append(lines, j.pending...)
	clear(j.pending)
	j.pending = j.pending[:0]
	if cap(j.pending) > 1000 { // a burst is over
		j.pending = nil
	}
	if !j.sieve.began.IsZero() && (end || now.Sub(j.sieve.began) >= sumsFor || now.Before(j.sieve.began)) {
		lines = append(lines, j.sieve.take()...)
	}
	return lines, lost
}

func lostWords(lost map[string]uint64, problem string) string {
	var n uint64
	var words []string
	for _, kind := range slices.Sorted(maps.Keys(lost)) {
		n += lost[kind]
		words = append(words, fmt.Sprintf("%d %s", lost[kind], kind))
	}
	if problem == "" {
		problem = "more came than the disk took"
	}
	return fmt.Sprintf("%d events before this one are lost (%s): %s", n, strings.Join(words, ", "), problem)
}

func encode(r *api.Recorded) []byte {
	r.Object, r.Why, r.By = clip(r.Object, maxName), clip(r.Why, maxWhy), clip(r.By, maxName)
	line, err := json.Marshal(r)
	if err != nil {
		panic(fmt.Sprintf("encode an event: %v", err)) // our own type encodes
	}
	return line
}

// Changed gives a channel that is closed when more was written.
func (j *Journal) Changed() <-chan struct{} {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.changed
}

// Stats counts since Open.
func (j *Journal) Stats() api.JournalStats {
	j.mu.Lock()
	defer j.mu.Unlock()
	s := j.stats
	s.Events, s.Moves = maps.Clone(s.Events), maps.Clone(s.Moves)
	return s
}

// Alarms says in a sentence if nothing is written.
func (j *Journal) Alarms() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.problem == "" {
		return nil
	}
	return []string{"events are not kept on disk: " + j.problem}
}
