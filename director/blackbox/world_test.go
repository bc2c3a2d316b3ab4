package blackbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gopacket/gopacket/pcapgo"

	"tunneldirector/affinity"
	"tunneldirector/director/api"
	"tunneldirector/director/plane"
)

// A fakePlane shows what a test gives it.
type fakePlane struct {
	show chan plane.Sample

	mu      sync.Mutex // guards what follows
	down    error      // Samples returns it
	total   map[plane.Reason]uint64
	counted error
	watches []watched
	refuses error // Watch returns it
}

// watched is a call of Watch; left: how long it holds, 0: it ends one.
type watched struct {
	w    plane.Watch
	left time.Duration
}

func (p *fakePlane) Samples(ctx context.Context, f func(plane.Sample)) error {
	p.mu.Lock()
	err := p.down
	p.mu.Unlock()
	if err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case s, ok := <-p.show:
			if !ok {
				return errors.New("the ring is gone")
			}
			f(s)
		}
	}
}

func (p *fakePlane) Watch(w plane.Watch, until time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.watches = append(p.watches, watched{w, max(0, time.Until(until))})
	return p.refuses
}

func (p *fakePlane) Drops() (map[plane.Reason]uint64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.total, p.counted
}

// count has the plane say that so many were dropped.
func (p *fakePlane) count(total map[plane.Reason]uint64, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.total, p.counted = total, err
}

func (p *fakePlane) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = err
}

// A world is a recorder that runs in a bubble.
type world struct {
	*Recorder
	t     *testing.T
	plane *fakePlane
	notes *[]string
	stop  func() // ends Run
}

// run starts a recorder of d1, of which Words are the reason and the length.
func run(t *testing.T, o Options) *world {
	t.Helper()
	p := &fakePlane{show: make(chan plane.Sample)}
	var notes []string
	o.Plane, o.Director, o.Version, o.Log = p, "d1", "v1.2.3", slog.New(slog.DiscardHandler)
	o.Words = func(s plane.Sample) string { return fmt.Sprintf("dropped (%s): %d bytes", s.Reason, s.Length) }
	o.RealServer = func(i affinity.Index) string { return fmt.Sprint("rs", i) }
	o.Note = func(object, why string) { notes = append(notes, object+" "+why) }
	r, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		if err := r.Run(ctx); err != nil {
			t.Errorf("Run returns %v", err)
		}
	}()
	synctest.Wait()
	stop := func() {
		cancel()
		synctest.Wait()
	}
	t.Cleanup(stop)
	return &world{Recorder: r, t: t, plane: p, notes: &notes, stop: stop}
}

// drop shows a packet that was dropped now.
func (w *world) drop(reason plane.Reason, length int) {
	w.t.Helper()
	w.show(plane.Sample{At: time.Now(), Interface: "eth0", Reason: reason, RealServer: 7, Length: length, Head: make([]byte, min(length, plane.SampleBytes))})
}

func (w *world) show(s plane.Sample) {
	w.t.Helper()
	w.plane.show <- s
	synctest.Wait()
}

func (w *world) trigger(kind, object, why string) {
	w.Trigger(Trigger{Kind: kind, Object: object, Why: why})
	synctest.Wait()
}

func (w *world) list() api.RecordingList {
	w.t.Helper()
	l, err := w.Recordings()
	if err != nil {
		w.t.Fatal(err)
	}
	return l
}

// ids are those of the list, with ... behind one that is open.
func (w *world) ids() (ids []string) {
	w.t.Helper()
	for _, r := range w.list().Recordings {
		if r.Open {
			r.ID += "..."
		}
		ids = append(ids, r.ID)
	}
	return ids
}

// content is what a recording says.
type content struct {
	application, why, about string
	packets                 []string // as interface, time after midnight, length, comments
	notes                   []string // comments of further interfaces
	samples                 []plane.Sample
	torn                    bool
}

func (w *world) read(id string) content {
	w.t.Helper()
	f, err := w.Recording(id)
	if err != nil {
		w.t.Fatal(err)
	}
	defer f.Close()
	c := parse(w.t, f)
	if c.torn {
		w.t.Errorf("%s ends within a packet", id)
	}
	return c
}

// parse reads all of a file, as far as it goes.
func parse(t testing.TB, f io.Reader) (c content) {
	t.Helper()
	r, err := pcapgo.NewNgReader(f, pcapgo.NgReaderOptions{WantMixedLinkType: true})
	if err != nil {
		t.Fatal(err)
	}
	midnight := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) // of a bubble
	for {
		head, ci, opts, err := r.ReadPacketDataWithOptions()
		if err != nil {
			c.torn = !errors.Is(err, io.EOF)
			break
		}
		intf, err := r.Interface(ci.InterfaceIndex)
		if err != nil {
			t.Fatal(err)
		}
		if intf.SnapLength != plane.SampleBytes || ci.CaptureLength != len(head) || len(head) > plane.SampleBytes {
			t.Errorf("a packet is %+v of interface %+v", ci, intf)
		}
		c.packets = append(c.packets, fmt.Sprintf("%s %v %d: %s", intf.Name, ci.Timestamp.Sub(midnight), ci.Length, strings.Join(opts.Comments, " | ")))
		c.samples = append(c.samples, plane.Sample{At: ci.Timestamp, Interface: intf.Name, Length: ci.Length, Head: head})
	}
	for i := range r.NInterfaces() {
		intf, err := r.Interface(i)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			c.about = intf.Name + ": " + intf.Comment
		} else if intf.Comment != "" {
			c.notes = append(c.notes, intf.Comment)
		}
	}
	c.application, c.why = r.SectionInfo().Application, r.SectionInfo().Comment
	return c
}

// onDisk is what all recordings of a directory have, bytes, as anybody sees them.
func onDisk(t testing.TB, dir string) (sum int64, names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := os.Stat(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		sum, names = sum+info.Size(), append(names, e.Name())
	}
	return sum, names
}

// somewhere is a watch.
var somewhere = plane.Watch{Dst: netip.MustParsePrefix("192.0.2.10/32"), Proto: 50}
