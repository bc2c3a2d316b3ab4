package replica

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"

	"tunneldirector/affinity"
	"tunneldirector/cluster"
)

// A Local is the table that is replicated: the director's loop.
type Local interface {
	// Table is an immutable snapshot. Any goroutine may call it.
	Table() *affinity.Table
	// Digest sums up the table as it is now. Any goroutine may call it.
	Digest() *affinity.Digest
	// Merge takes records of another director; Kind, Key and Value are set. When it returns nil, those that are newer than what
	// is here are on disk and in the data plane. An error that joins nothing but *RecordErrors names the ones that were refused
	// for good, while the others are in. After any other error it is called again with the same records.
	Merge(ctx context.Context, from string, records []affinity.Change) error
	// Answer answers a question of another director.
	Answer(ctx context.Context, from string, question []byte) ([]byte, error)
}

// A RecordError is why Merge refused one record.
type RecordError struct {
	Kind affinity.Kind
	Key  string
	Err  error
}

func (e *RecordError) Error() string {
	return fmt.Sprintf("take over %v %q: %v", e.Kind, e.Key, e.Err)
}

// Unwrap is the cause.
func (e *RecordError) Unwrap() error { return e.Err }

// A Memory remembers, durably, how far other directors' stores were.
type Memory interface {
	Recall(director string) (storeID string, boot uint64, ok bool)
	Remember(director, storeID string, boot uint64)
}

// Options are what a Replica needs. Self, StoreID, Boot, Local and Dial are required.
type Options struct {
	Self    string // this director's name
	StoreID string
	Boot    uint64 // how many times its store was opened
	Local   Local
	// Dial connects to another director, which has proved to be m.Name when it returns.
	Dial   func(ctx context.Context, m cluster.Member) (net.Conn, error)
	Memory Memory // nil: old copies are not found
	// OldCopy is called once, when another director remembers a later state of this director's store. Nothing is sent or taken any more.
	OldCopy func(peer string)
	Log     *slog.Logger     // nil: none
	Now     func() time.Time // for Status only; nil: time.Now
}

// A Replica keeps this director's table and the others' the same. Any goroutine may call its methods.
type Replica struct {
	o         Options
	instance  string
	retired   chan struct{} // closed when this director's store turns out to be an old copy
	members   chan struct{} // poked when members have changed; capacity 1
	comparing chan struct{} // full while a round is in progress; capacity 1

	mu      sync.Mutex
	changed chan struct{} // closed, and made anew, when anything below changes
	last    uint64        // the highest revision that this director wrote
	peers   map[string]*peer
	moved   time.Time // when a round last moved records
	asked   uint64    // number of the last question
	old     bool
}

// New makes a Replica.
func New(o Options) *Replica {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Replica{o: o, instance: rand.Text(), retired: make(chan struct{}), members: make(chan struct{}, 1), comparing: make(chan struct{}, 1),
		changed: make(chan struct{}), peers: map[string]*peer{}}
}

// Run dials every member of the view until ctx ends.
func (r *Replica) Run(ctx context.Context) error {
	var dialling sync.WaitGroup
	defer dialling.Wait()
	running := map[*peer]context.CancelFunc{}
	for {
		r.mu.Lock()
		for p, stop := range running {
			if p.member.Name == "" {
				stop()
				delete(running, p)
			}
		}
		for _, p := range r.peers {
			if _, runs := running[p]; !runs && p.member.Name != "" {
				one, stop := context.WithCancel(ctx)
				running[p] = stop
				dialling.Go(func() { r.dialAlways(one, p) })
			}
		}
		r.mu.Unlock()
		select {
		case <-ctx.Done():
			for _, stop := range running {
				stop()
			}
			return nil
		case <-r.members:
		}
	}
}

const (
	firstPause = 100 * time.Millisecond // before a peer is dialled again
	maxPause   = 5 * time.Second
	patience   = 5 * time.Second // for a connection to be made
)

// dialAlways connects to a peer again and again.
func (r *Replica) dialAlways(ctx context.Context, p *peer) {
	for failures := 0; ; failures++ {
		begun := time.Now()
		err := r.dial(ctx, p)
		if ctx.Err() != nil {
			return
		}
		select {
		case <-r.retired:
			return
		default:
		}
		if time.Since(begun) > 2*silence {
			failures = 0
		}
		r.failed(p, &p.dialled, err)
		select {
		case <-time.After(r.pause(p.name, failures)):
		case <-p.back:
			failures = -1 // those were while it was dead
		case <-ctx.Done():
			return
		}
	}
}

// pause grows with failures, and differs between directors. It is the same at each run, so that a simulation can be replayed.
func (r *Replica) pause(peer string, failures int) time.Duration {
	d := min(firstPause<<min(failures, 10), maxPause)
	spread := xxhash.Sum64String(fmt.Sprint(r.o.Self, " ", peer, " ", failures)) % 1000
	return d/2 + d*time.Duration(spread)/1000
}

func (r *Replica) dial(ctx context.Context, p *peer) error {
	r.mu.Lock()
	member := p.member
	r.mu.Unlock()
	soon, cancel := context.WithTimeout(ctx, patience)
	conn, err := r.o.Dial(soon, member)
	cancel()
	if err != nil {
		return fmt.Errorf("dial %s at %v: %w", p.name, member.Stream, err)
	}
	return newLink(r, p, conn, true).run(ctx)
}

// Accept serves a connection that another director, which has proved to be peer, has made, until it ends; then it is closed.
// The error says why it ended; nil: ctx did.
func (r *Replica) Accept(ctx context.Context, conn net.Conn, peer string) error {
	r.mu.Lock()
	p := r.peer(peer)
	p.serving++
	r.mu.Unlock()
	err := newLink(r, p, conn, false).run(ctx)
	if ctx.Err() != nil {
		err = nil
	}
	r.failed(p, &p.accepted, err)
	r.mu.Lock()
	p.serving--
	r.sweep()
	r.mu.Unlock()
	return err
}

// failed notes and says why a connection ended, or was not made.
func (r *Replica) failed(p *peer, way *way, err error) {
	if err == nil {
		return
	}
	r.mu.Lock()
	again := way.err != nil && way.err.Error() == err.Error()
	way.err, way.errAt = err, time.Now()
	r.mu.Unlock()
	level := slog.LevelWarn
	if again {
		level = slog.LevelDebug
	}
	r.o.Log.Log(context.Background(), level, "no connection between directors", "peer", p.name, "dialled", way == &p.dialled, "err", err)
}

// retire ends all work: a peer remembers a later state of this director's store.
func (r *Replica) retire(peer string) {
	r.mu.Lock()
	first := !r.old
	r.old = true
	r.mu.Unlock()
	if !first {
		return
	}
	close(r.retired)
	r.o.Log.Error("this director's store is an old copy: nothing is sent to other directors or taken from them", "says", peer)
	if r.o.OldCopy != nil {
		r.o.OldCopy(peer)
	}
}

// poke wakes all that wait for a change. The mutex is held.
func (r *Replica) poke() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// until waits until ok, which is called with the mutex held, returns true.
func (r *Replica) until(ctx context.Context, ok func() bool) error {
	for {
		r.mu.Lock()
		yes, changed := ok(), r.changed
		r.mu.Unlock()
		if yes {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// recordErrors are the records that err says were refused; whole is what else it says.
func recordErrors(err error) (refused []*RecordError, whole error) {
	switch e := err.(type) {
	case nil:
		return nil, nil
	case *RecordError:
		return []*RecordError{e}, nil
	case interface{ Unwrap() []error }:
		for _, part := range e.Unwrap() {
			more, bad := recordErrors(part)
			refused, whole = append(refused, more...), errors.Join(whole, bad)
		}
		return refused, whole
	}
	return nil, err
}
