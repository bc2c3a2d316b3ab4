package blackbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"tunneldirector/director/api"
	"tunneldirector/director/plane"
)

// A recording has what was dropped before its trigger, that which triggered, and what is dropped in the five seconds after it, by time.
func TestLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "data", "blackbox")
		w := run(t, Options{Dir: dir})
		w.drop(plane.DropUnknown, 60)
		w.show(plane.Sample{At: time.Now().Add(time.Second), Interface: "eth1", Reason: plane.DropCover, Length: 1500, Head: make([]byte, 128)})
		time.Sleep(3 * time.Second)
		w.show(plane.Sample{At: time.Now(), Reason: plane.DropUnknown, Length: 61, Head: []byte{1, 2, 3}})
		w.show(plane.Sample{At: time.Now(), Interface: "eth0", Length: 62}) // forwarded
		w.show(plane.Sample{At: time.Now(), Interface: "eth0", Reason: plane.PassLocal, Length: 63})
		w.drop(plane.DropLoop, 100)
		time.Sleep(after - time.Second)
		w.drop(plane.DropUnknown, 70)
		w.show(plane.Sample{At: time.Now().Add(-time.Second / 2), Interface: "eth1", Reason: plane.DropUnknown, Length: 69}) // of another core
		if d := cmp.Diff([]string{"20000101T000003Z-loop..."}, w.ids()); d != "" {
			t.Error(d)
		}
		time.Sleep(2 * time.Second)
		w.drop(plane.DropUnknown, 80)

		list := w.list()
		at := time.Date(2000, 1, 1, 0, 0, 3, 0, time.UTC)
		size, names := onDisk(t, dir)
		want := api.RecordingList{
			Director: "d1", MaxBytes: 64 << 20,
			Recordings: []api.Recording{{ID: "20000101T000003Z-loop", At: at, Trigger: "loop", Object: "rs7", Why: "dropped (loop): 100 bytes", Bytes: size}},
			Kept: []api.KeptDrops{
				{Reason: "loop", Samples: 1, Last: at}, {Reason: "no-tunnel-in-cover", Samples: 1, Last: at.Add(-2 * time.Second)},
				{Reason: "unknown-endpoint", Samples: 5, Last: at.Add(6 * time.Second)},
			},
		}
		if d := cmp.Diff(want, list); d != "" {
			t.Error(d)
		}
		if d := cmp.Diff([]string{"20000101T000003Z-loop.pcapng"}, names); d != "" {
			t.Error(d)
		}
		c := w.read(list.Recordings[0].ID)
		c.samples = nil
		wantFile := content{
			application: "tunneldirector v1.2.3 (director d1)", why: "dropped (loop): 100 bytes", about: "director: rs7",
			packets: []string{
				"eth0 0s 60: dropped (unknown-endpoint): 60 bytes", "eth1 1s 1500: dropped (no-tunnel-in-cover): 1500 bytes", "(gone) 3s 61: dropped (unknown-endpoint): 61 bytes",
				"eth0 3s 100: dropped (loop): 100 bytes | trigger loop about rs7 at 00:00:03.000Z: dropped (loop): 100 bytes",
				"eth1 6.5s 69: dropped (unknown-endpoint): 69 bytes", "eth0 7s 70: dropped (unknown-endpoint): 70 bytes",
			},
		}
		if d := cmp.Diff(wantFile, c, cmp.AllowUnexported(content{})); d != "" {
			t.Error(d)
		}
		if d := cmp.Diff([]string{"20000101T000003Z-loop began: dropped (loop): 100 bytes"}, *w.notes); d != "" {
			t.Error(d)
		}
	})
}

// What triggers, and what the list says of it.
func TestTriggers(t *testing.T) {
	for _, tt := range []struct {
		name    string
		trigger func(w *world)
		want    api.Recording
	}{
		{"a packet that came back", func(w *world) { w.drop(plane.DropLoop, 90) },
			api.Recording{ID: "20000101T000020Z-loop", Trigger: "loop", Object: "rs7", Why: "dropped (loop): 90 bytes"}},
		{"drops that jump", func(w *world) {
			w.plane.count(map[plane.Reason]uint64{plane.DropUnknown: 1840, plane.DropICMP: 49, plane.PassLocal: 1 << 40}, nil)
			time.Sleep(time.Second)
		}, api.Recording{ID: "20000101T000021Z-drops", Trigger: "drops", Object: "unknown-endpoint", Why: "drops of unknown-endpoint jumped from 0 to 1,840 packets/s"}},
		{"a real server that was lost", func(w *world) { w.trigger("real-server", "rs2", "rs2 is dead: no answer for 612ms") },
			api.Recording{ID: "20000101T000020Z-real-server", Trigger: "real-server", Object: "rs2", Why: "rs2 is dead: no answer for 612ms"}},
		{"an operator", func(w *world) {
			if _, err := w.Record(w.t.Context(), "ann", "site-7 complains"); err != nil {
				w.t.Error(err)
			}
		}, api.Recording{ID: "20000101T000020Z-operator", Trigger: "operator", Object: "ann", Why: "site-7 complains"}},
		{"an operator who does not say why", func(w *world) {
			if _, err := w.Record(w.t.Context(), "ann", ""); err != nil {
				w.t.Error(err)
			}
		}, api.Recording{ID: "20000101T000020Z-operator", Trigger: "operator", Object: "ann", Why: "asked for"}},
		{"an object of any bytes and reasons of several lines", func(w *world) {
			w.trigger("real-server", "../\x00/\xff/r s\n", "dead\r\nDEAD\x1b[2J "+strings.Repeat("ö", 300))
		},
			api.Recording{ID: "20000101T000020Z-real-server", Trigger: "real-server", Object: "../ //r s", Why: "dead  DEAD [2J " + strings.Repeat("ö", 241) + "..."}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := Options{Dir: t.TempDir()}
				w := run(t, o)
				time.Sleep(20*time.Second + every/2)
				tt.trigger(w)
				time.Sleep(after + every)
				list := w.list()
				if len(list.Recordings) != 1 || list.Error != "" {
					t.Fatalf("there is %+v", list)
				}
				got := list.Recordings[0]
				if c := w.read(got.ID); c.why != got.Why || c.about != strings.TrimSuffix("director: "+got.Object, " ") {
					t.Errorf("the file is about %q because of %q", c.about, c.why)
				}
				tt.want.At, tt.want.Bytes = got.At, got.Bytes
				if d := cmp.Diff(tt.want, got); d != "" {
					t.Error(d)
				}
				w.stop()
				if d := cmp.Diff(list.Recordings, run(t, o).list().Recordings); d != "" {
					t.Errorf("after a restart: %s", d)
				}
			})
		})
	}
}

// A flood of one reason pushes out no sample of another, and the last ones of it are there.
func TestFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := run(t, Options{Dir: t.TempDir()})
		for i := range 3 {
			w.drop(plane.DropTooBig, 1500+i)
		}
		for i := range 10 * keptOfReason {
			w.drop(plane.DropUnknown, 100+i)
			time.Sleep(time.Microsecond)
		}
		rec, err := w.Record(t.Context(), "ann", "flood")
		if err != nil {
			t.Fatal(err)
		}
		c := w.read(rec.ID)
		if len(c.packets) != 3+keptOfReason || !strings.HasPrefix(c.packets[2], "eth0 0s 1502: dropped (too-big)") ||
			!strings.HasPrefix(c.packets[3], fmt.Sprintf("eth0 2.304ms %d:", 100+9*keptOfReason)) || c.samples[2+keptOfReason].Length != 99+10*keptOfReason {
			t.Errorf("%d packets are kept: %q...", len(c.packets), c.packets[:min(5, len(c.packets))])
		}
		for _, k := range w.list().Kept {
			if k.Samples > keptOfReason {
				t.Errorf("in memory is %+v", k)
			}
		}
	})
}

// Packets of one reason that were dropped at one time are in the order in which they came.
func TestOrderOfOneTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := run(t, Options{Dir: t.TempDir()})
		for i := range keptOfReason + 99 {
			w.drop(plane.DropUnknown, i)
		}
		rec, err := w.Record(t.Context(), "ann", "")
		if err != nil {
			t.Fatal(err)
		}
		for i, s := range w.read(rec.ID).samples {
			if s.Length != i+99 {
				t.Fatalf("packet %d has %d bytes", i, s.Length)
			}
		}
	})
}

// What triggers while a recording goes on is in it, and begins no other; it goes on for longer, but not for ever.
func TestJoined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := run(t, Options{Dir: t.TempDir()})
		w.trigger("real-server", "rs1", "rs1 is dead")
		time.Sleep(4 * time.Second)
		w.trigger("real-server", "rs2", "rs2 is dead")
		w.trigger("real-server", "rs2", "rs2 is dead again")
		rec, err := w.Record(t.Context(), "ann", "look at this")
		if err != nil || rec.ID != "20000101T000000Z-real-server" || !rec.Open || rec.Object != "rs1" {
			t.Errorf("an operator is told %+v, %v", rec, err)
		}
		w.drop(plane.DropDead, 60)
		time.Sleep(4 * time.Second)
		w.drop(plane.DropDead, 61)
		w.trigger("real-server", "rs3", "rs3 is dead")
		time.Sleep(after + time.Second)
		c := w.read("20000101T000000Z-real-server")
		want := []string{
			"eth0 4s 60: dropped (both-dead): 60 bytes | trigger real-server about rs1 at 00:00:00.000Z: rs1 is dead | trigger real-server about rs2 at 00:00:04.000Z: rs2 is dead | trigger operator about ann at 00:00:04.000Z: look at this",
			"eth0 8s 61: dropped (both-dead): 61 bytes | trigger real-server about rs3 at 00:00:08.000Z: rs3 is dead",
		}
		if d := cmp.Diff(want, c.packets); d != "" {
			t.Error(d)
		}
		if d := cmp.Diff([]string{"20000101T000000Z-real-server"}, w.ids()); d != "" {
			t.Error(d)
		}

		time.Sleep(time.Hour)
		began, second := time.Now(), false
		for i := range 200 {
			if _, err := w.Record(t.Context(), "ann", fmt.Sprint("more ", i)); err != nil {
				t.Fatal(err)
			}
			if l := w.list().Recordings; len(l) > 2 {
				if d := time.Since(began); d < longest || d > longest+after {
					t.Errorf("a recording took %v", d)
				}
				second = true
				break
			}
			time.Sleep(time.Second)
		}
		if !second {
			t.Error("a recording does not end")
		}
	})
}

// Triggers that no packet follows are told, too, and not without end.
func TestJoinedWithoutPackets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := run(t, Options{Dir: t.TempDir()})
		w.trigger("real-server", "rs1", "rs1 is dead")
		for i := range maxJoined + 1 {
			w.trigger("real-server", fmt.Sprint("rs", 2+i), "dead")
		}
		time.Sleep(after + time.Second)
		c := w.read("20000101T000000Z-real-server")
		if len(c.packets) != 0 || len(c.notes) != 1 {
			t.Fatalf("there is %+v", c)
		}
		lines := strings.Split(c.notes[0], "\n")
		if len(lines) != maxJoined+1 || lines[1] != "trigger real-server about rs2 at 00:00:00.000Z: dead" || lines[maxJoined] != "2 more triggers are not told" {
			t.Errorf("%d lines: %q", len(lines), lines)
		}
	})
}

// One trigger about one thing makes a recording once a minute; others are not held up by it, and an operator never is.
func TestOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := run(t, Options{Dir: t.TempDir()})
		for range 130 { // seconds
			w.drop(plane.DropLoop, 60)
			if time.Since(time.Date(2000, 1, 1, 0, 0, 10, 0, time.UTC)) == 0 {
				w.trigger("real-server", "rs7", "dead")
			}
			time.Sleep(time.Second)
		}
		for range 2 {
			if _, err := w.Record(t.Context(), "ann", "now"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(after + time.Second)
		}
		want := []string{
			"20000101T000000Z-loop", "20000101T000010Z-real-server", "20000101T000100Z-loop", "20000101T000200Z-loop",
			"20000101T000210Z-operator", "20000101T000216Z-operator",
		}
		if d := cmp.Diff(want, w.ids()); d != "" {
			t.Error(d)
		}
		if n := len(w.rests); n > 2 {
			t.Errorf("%d things are remembered", n)
		}
	})
}

// Trigger never waits, though nobody hears it.
func TestTriggerNeverWaits(t *testing.T) {
	r, err := Open(Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	for range 10_000 {
		r.Trigger(Trigger{Kind: "real-server"})
	}
}

// A trigger of a kind that nobody knows is no recording: its kind would be a part of a file's name.
func TestUnknownKind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := run(t, Options{Dir: t.TempDir()})
		w.trigger("../../loop", "x", "y")
		if l := w.list(); len(l.Recordings) != 0 || l.Error != "" {
			t.Errorf("there is %+v", l)
		}
	})
}

// A recording is complete when the director ends, and says so; who asks then is told.
func TestEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := Options{Dir: t.TempDir()}
		w := run(t, o)
		w.drop(plane.DropLoop, 60)
		w.asks <- func() { time.Sleep(time.Second) }
		for i := range 20 { // they wait when it ends
			w.plane.show <- plane.Sample{At: time.Now(), Interface: "eth0", Reason: plane.DropUnknown, Length: 61 + i}
		}
		w.stop()
		time.Sleep(2 * time.Second)
		for what, err := range map[string]error{
			"Recordings": second(w.Recordings()), "Recording": second(w.Recording("20000101T000000Z-loop")), "Record": second(w.Record(t.Context(), "ann", "")),
			"Watch": w.Watch(t.Context(), "ann", somewhere, nil),
		} {
			if !errors.Is(err, errEnded) {
				t.Errorf("%s says %v", what, err)
			}
		}
		c := run(t, o).read("20000101T000000Z-loop")
		if len(c.packets) != 21 || !strings.HasSuffix(c.packets[20], "80 bytes | the recording ends early: the director ends") {
			t.Errorf("there is %q", c.packets)
		}
	})
}

func second[T any](_ T, err error) error { return err }

// Two within a second have names of their own, and ids are nothing else.
func TestIDs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		w := run(t, Options{Dir: filepath.Join(dir, "blackbox")})
		for range 3 {
			if _, err := w.Record(t.Context(), "ann", ""); err != nil {
				t.Fatal(err)
			}
			w.Recorder.asks <- func() { w.end("") }
		}
		if d := cmp.Diff([]string{"20000101T000000Z-operator", "20000101T000000Z-operator-2", "20000101T000000Z-operator-3"}, w.ids()); d != "" {
			t.Error(d)
		}
		for _, id := range []string{
			"", ".", "..", "../blackbox/20000101T000000Z-operator", "20000101T000000Z-operator.pcapng", "20000101T000000Z-operator/", "20000101T000000Z-operator-1",
			"20000101T000000Z-operator-4", "20000101T000000Z-loop", "20000101T000000Z-../x", "20000101T000000Z-operator\x00", "20000101T000000Z-operator\n", "20009901T000000Z-operator",
			strings.Repeat("../", 100) + "etc/passwd",
		} {
			if _, err := w.Recording(id); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%q: %v", id, err)
			}
		}
	})
}

// Whatever a plane says of a packet, the file can be read.
func TestOddSamples(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := run(t, Options{Dir: t.TempDir()})
		rec, err := w.Record(t.Context(), "ann", "")
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []plane.Sample{
			{}, {At: time.Unix(-1, 0), Length: -1}, {At: time.Now(), Length: 1 << 40, Head: make([]byte, 500)}, {At: time.Now(), Head: make([]byte, 7)},
			{At: time.Now(), Interface: strings.Repeat("x", 1000), Length: 1},
		} {
			s.Reason = 31
			w.show(s)
		}
		c := w.read(rec.ID)
		var got []string
		for _, s := range c.samples {
			got = append(got, fmt.Sprintf("%.10s %v %d %d", s.Interface, s.At.Equal(time.Now()), s.Length, len(s.Head)))
		}
		want := []string{"(gone) true 0 0", "(gone) true 0 0", "(gone) true 2147483647 128", "(gone) true 7 7", "xxxxxxxxxx true 1 0"}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	})
}

// Who asks is told when the goroutine that owns the files does not answer, as when its disk hangs; and does not wait longer than it wants.
func TestBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := run(t, Options{Dir: t.TempDir()})
		w.asks <- func() { time.Sleep(time.Hour) }
		began := time.Now()
		if _, err := w.Recordings(); !errors.Is(err, errBusy) || time.Since(began) != answersIn {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := w.Record(ctx, "ann", ""); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if got := w.Problem(); got != errBusy.Error() {
			t.Errorf("an alarm is made of %q", got)
		}
		time.Sleep(time.Hour)
		if got := w.Problem(); got != "" {
			t.Errorf("later an alarm is made of %q", got)
		}
		if len(w.ids()) != 0 {
			t.Errorf("it did later what was given up: %q", w.ids())
		}
	})
}
