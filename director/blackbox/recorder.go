package blackbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"tunneldirector/affinity"
	"tunneldirector/director/api"
	"tunneldirector/director/plane"
)

// Options are what a Recorder is told once.
type Options struct {
	Dir      string // of the recordings; made if it is not there
	MaxSize  int64  // bytes of all recordings; 0: 64 MiB
	Director string // who records
	Version  string // of the program
	Plane    plane.Sampler
	// Words says in a sentence what became of a packet and why, with names. It is asked as the packet is written, and does not block.
	Words func(plane.Sample) string
	// RealServer is the name of one; nil: its number.
	RealServer func(affinity.Index) string
	// Note is told that a recording began, or why one could not be written; object is its id. nil: nobody is told.
	Note func(object, why string)
	Log  *slog.Logger
}

const (
	// after is how long a recording goes on after a trigger.
	after = 5 * time.Second
	// longest is how long it goes on though triggers go on.
	longest = 30 * time.Second
	// rest is the time between two triggers of one kind about one object that are heeded.
	rest = time.Minute
	// again is that time if the disk failed.
	again = 5 * time.Second
	// every is how often counters are looked at, and what is recorded is given to the disk.
	every = time.Second
	// answersIn is how long who asks waits for the goroutine that owns the files. It may wait for a disk.
	answersIn = 10 * time.Second

	defaultSize = 64 << 20
	leastSize   = 128 << 10
	// largest is how large one file is at most; a half of all, if that is less.
	largest = 8 << 20
)

// errEnded is what those are told who ask when Run has returned.
var errEnded = errors.New("the black box has ended with its director")

// A Trigger is something that somebody will ask about.
type Trigger struct {
	Kind   string // one of api.RecordingTriggers
	Object string // what it is about; any bytes
	Why    string // in words
}

// The kinds of triggers that a Recorder finds itself, and an operator's.
const (
	kindLoop     = "loop"
	kindDrops    = "drops"
	kindOperator = "operator"
)

// A thing is what triggers are heeded about once a minute.
type thing struct{ kind, object string }

// A Recorder keeps samples in memory, and recordings on disk.
type Recorder struct {
	o        Options
	samples  chan plane.Sample
	triggers chan Trigger
	asks     chan func() // what Run's goroutine does for others
	ended    chan struct{}
	source   source
	watching watching
	full     bool // the ring's goroutine hangs, as whoever takes samples knows

	// What follows belongs to Run's goroutine.
	kept  ring
	rates rates
	files files
	open  *recording          // nil: none
	rests map[thing]time.Time // until when a trigger is not heeded
	// unwritten is why the last recording could not be written, uncounted why the counters could not be read; "" if they could.
	unwritten, uncounted string

	said atomic.Pointer[said] // of the last look
}

// A said is what was wrong at that time.
type said struct {
	at    time.Time
	wrong string
}

// Open makes the directory if need be, and reads what recordings there are. One that a crash has left is one that ends early.
func Open(o Options) (*Recorder, error) {
	if o.MaxSize == 0 {
		o.MaxSize = defaultSize
	}
	if o.MaxSize < leastSize {
		return nil, fmt.Errorf("open the black box: a size of %d bytes holds no recording: give it %d at least", o.MaxSize, leastSize)
	}
	if o.Note == nil {
		o.Note = func(string, string) {}
	}
	if o.RealServer == nil {
		o.RealServer = func(i affinity.Index) string { return fmt.Sprint("number ", i) }
	}
	r := &Recorder{o: o, samples: make(chan plane.Sample, 1024), triggers: make(chan Trigger, 64), asks: make(chan func()), ended: make(chan struct{}),
		kept: ring{}, files: files{dir: o.Dir, most: o.MaxSize}, rests: map[thing]time.Time{}, source: source{log: o.Log}}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("open the black box: %w", err)
	}
	torn, err := r.files.read()
	if err != nil {
		return nil, fmt.Errorf("open the black box: %w", err)
	}
	for _, id := range torn {
		o.Log.Warn("a recording ends early: its director ended while it was written", "recording", id)
	}
	return r, nil
}

// Run takes samples and records until ctx ends; what is being recorded is complete then. It is called once.
func (r *Recorder) Run(ctx context.Context) error {
	defer close(r.ended)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return r.sample(ctx) })
	g.Go(func() error { return r.record(ctx) })
	return g.Wait()
}

// record owns the ring and the files.
func (r *Recorder) record(ctx context.Context) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	r.said.Store(&said{at: time.Now()})
	for {
		var over <-chan time.Time
		if r.open != nil {
			over = r.open.over.C
		}
		select {
		case <-ctx.Done():
			r.stop()
			return nil
		case s := <-r.samples:
			r.take(s)
		case t := <-r.triggers:
			r.heed(t)
		case do := <-r.asks:
			do()
		case <-tick.C:
			r.look()
		case <-over:
			r.end("")
		}
	}
}

// stop ends what is being recorded, with what has come.
func (r *Recorder) stop() {
	for len(r.samples) > 0 {
		r.take(<-r.samples)
	}
	r.end("the director ends")
}

// Trigger has what happened recorded: by a recording that begins, or by the one that goes on. It never waits; more than some dozens at
// once are lost, and so is what happened to the same object less than a minute ago.
func (r *Recorder) Trigger(t Trigger) {
	select {
	case r.triggers <- t:
	default:
	}
}

// take keeps a sample, and records it if a recording goes on.
func (r *Recorder) take(s plane.Sample) {
	s = bounded(s)
	if s.Reason == plane.DropLoop {
		object := ""
		if s.RealServer != 0 {
			object = r.o.RealServer(s.RealServer)
		}
		if !r.resting(thing{kindLoop, object}) {
			r.heed(Trigger{Kind: kindLoop, Object: object, Why: r.o.Words(s)})
		}
	}
	r.kept.add(s)
	if r.open != nil && !r.open.take(s) {
		r.end(fmt.Sprintf("its file has the %d bytes that one may have", r.open.most))
	}
}

// look finds jumps of the counters, and gives the disk what was recorded.
func (r *Recorder) look() {
	total, err := r.o.Plane.Drops()
	if err != nil && r.uncounted == "" {
		r.o.Log.Warn("drops cannot be counted, and jumps of them are not seen", "error", err)
	}
	r.uncounted = told(err)
	if err == nil {
		for _, j := range r.rates.see(time.Now(), total) {
			r.heed(Trigger{Kind: kindDrops, Object: j.reason.String(), Why: j.String()})
		}
	}
	if r.open != nil {
		r.check(r.open.settle(time.Now()))
	}
	r.said.Store(&said{time.Now(), r.wrong()})
}

// wrong is what is wrong now, in words.
func (r *Recorder) wrong() string {
	var list []string
	for _, x := range []struct{ what, why string }{
		{"the last recording could not be written", r.unwritten}, {"samples cannot be taken", r.source.says()}, {"drops cannot be counted", r.uncounted},
	} {
		if x.why != "" {
			list = append(list, x.what+": "+x.why)
		}
	}
	return strings.Join(list, "; ")
}

// Problem is what was wrong a second ago, or that nobody has looked for long, in words; "": nothing. It never waits.
func (r *Recorder) Problem() string {
	switch s := r.said.Load(); {
	case s == nil:
		return ""
	case time.Since(s.at) > answersIn:
		return errBusy.Error()
	default:
		return s.wrong
	}
}

func told(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func (r *Recorder) resting(x thing) bool { return time.Now().Before(r.rests[x]) }

// heed records what has triggered, but for what has just done so.
func (r *Recorder) heed(t Trigger) {
	if !slices.Contains(api.RecordingTriggers(), t.Kind) {
		r.o.Log.Error("a trigger of an unknown kind is not recorded", "kind", t.Kind, "object", t.Object)
		return
	}
	x := thing{t.Kind, t.Object}
	if r.resting(x) {
		return
	}
	_, err := r.begin(t)
	now := time.Now()
	for x, until := range r.rests {
		if !now.Before(until) {
			delete(r.rests, x)
		}
	}
	r.rests[x] = now.Add(rest)
	if err != nil {
		r.rests[x] = now.Add(again)
	}
}

// begin begins a recording, or has the one that goes on be about this, too.
func (r *Recorder) begin(t Trigger) (api.Recording, error) {
	t = clean(t)
	now := time.Now()
	if r.open != nil {
		r.open.join(t, now)
		return r.open.listed, nil
	}
	most := min(largest, r.o.MaxSize/2)
	id, err := r.files.room(t.Kind, now, most)
	if err == nil {
		r.open, err = newRecording(r.o, id, t, now, most)
	}
	if err != nil {
		r.fails(id, err)
		return api.Recording{}, fmt.Errorf("begin a recording: %w", err)
	}
	r.open.takeAll(r.kept.all())
	if err := r.open.settle(now); err != nil {
		r.check(err)
		return api.Recording{}, fmt.Errorf("begin a recording: %w", err)
	}
	r.o.Log.Info("a recording of dropped packets began", "recording", id, "trigger", t.Kind, "object", t.Object, "why", t.Why)
	r.o.Note(id, "began: "+t.Why)
	return r.open.listed, nil
}

// end completes the recording that goes on; why it ends early is a comment of its last packet.
func (r *Recorder) end(why string) {
	if r.open == nil {
		return
	}
	err := r.open.end(why)
	if r.check(err); err == nil {
		r.files.add(r.open.listed)
		r.open = nil
		if r.unwritten != "" {
			r.o.Log.Info("recordings are written again")
		}
		r.unwritten = ""
	}
}

// check gives up the recording that goes on, if it cannot be written; what was written stays.
func (r *Recorder) check(err error) {
	if err == nil {
		return
	}
	o := r.open
	r.open = nil
	if o.giveUp() {
		r.files.add(o.listed)
	}
	r.fails(o.listed.ID, err)
}

// fails tells that recordings cannot be written, once until they can.
func (r *Recorder) fails(id string, err error) {
	if r.unwritten == "" {
		r.o.Log.Error("a recording of dropped packets cannot be written", "recording", id, "error", err)
		r.o.Note(id, "cannot be written: "+err.Error())
	}
	r.unwritten = err.Error()
}
