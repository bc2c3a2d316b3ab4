package blackbox

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"tunneldirector/director/api"
	"tunneldirector/director/plane"
)

// quiet are reasons that trigger nothing.
var quiet = []plane.Reason{
	plane.DropNoService, plane.DropUnknown, plane.DropNoPort, plane.DropUnplaced, plane.DropContested, plane.DropDead, plane.DropCover, plane.DropHops, plane.DropSource,
	plane.DropTooBig, plane.DropNoNeighbour, plane.DropMalformed, plane.DropAmbiguous, plane.DropICMP, plane.DropRole,
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// What a crash has left is a recording that ends early; what is not ours is left alone; a file that cannot be read is listed, and counts.
func TestCrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := Options{Dir: t.TempDir()}
		w := run(t, o)
		w.trigger("real-server", "rs1", "rs1 is dead")
		for i := range 500 {
			w.drop(plane.DropDead, 60+i)
		}
		time.Sleep(3 * time.Second) // it is being written
		torn, err := os.ReadFile(filepath.Join(o.Dir, "20000101T000000Z-real-server.pcapng.part"))
		check(t, err)
		w.stop()
		dir := t.TempDir()
		for name, data := range map[string][]byte{
			"20000101T000000Z-real-server.pcapng.part": torn[:len(torn)-9], "20000101T000009Z-loop.pcapng.part": nil, "20000101T000001Z-loop-2.pcapng": []byte("no pcapng"),
			"20000101T000001Z-drops.pcapng.part": make([]byte, 4096), "notes.txt": nil, "20000101T000000Z-other.pcapng": torn, "x.pcapng.part": torn, "20000101T000000Z-loop.txt": nil,
		} {
			check(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
		}
		check(t, os.Mkdir(filepath.Join(dir, "20000101T000000Z-loop.pcapng"), 0o700))
		w = run(t, Options{Dir: dir})
		const unread = "not known: the beginning of the file cannot be read: "
		want := []api.Recording{
			{ID: "20000101T000000Z-real-server", Trigger: "real-server", Object: "rs1", Why: "rs1 is dead", Bytes: int64(len(torn) - 9)},
			{ID: "20000101T000001Z-drops", Trigger: "drops", Why: unread, Bytes: 4096}, {ID: "20000101T000001Z-loop-2", Trigger: "loop", Why: unread, Bytes: 9},
		}
		got := w.list().Recordings
		for i := range got {
			got[i].At = time.Time{}
			if strings.HasPrefix(got[i].Why, unread) {
				got[i].Why = unread
			}
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
		f, err := w.Recording("20000101T000000Z-real-server")
		check(t, err)
		defer f.Close()
		if c := parse(t, f); len(c.packets) < 400 || !c.torn {
			t.Errorf("%d packets are there, torn: %v", len(c.packets), c.torn)
		}
		_, names := onDisk(t, dir)
		wantNames := []string{
			"20000101T000000Z-loop.pcapng", "20000101T000000Z-loop.txt", "20000101T000000Z-other.pcapng", "20000101T000000Z-real-server.pcapng",
			"20000101T000001Z-drops.pcapng", "20000101T000001Z-loop-2.pcapng", "notes.txt", "x.pcapng.part",
		}
		if d := cmp.Diff(wantNames, names); d != "" {
			t.Error(d)
		}
	})
}

// What would be read is not clear when there is a complete recording and a part of one id: the daemon says so at its start.
func TestTwoOfOneID(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"20000101T000000Z-loop.pcapng", "20000101T000000Z-loop.pcapng.part"} {
		check(t, os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600))
	}
	if _, err := Open(Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), "move one of them away") {
		t.Error(err)
	}
}

// All recordings are as large as they may be, at any time; the newest are there.
func TestSize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most = 1 << 20
		o := Options{Dir: t.TempDir(), MaxSize: most}
		w := run(t, o)
		var newest []string
		peak := int64(0)
		for range 30 {
			rec, err := w.Record(t.Context(), "ann", "")
			check(t, err)
			newest = append(newest, rec.ID)
			for i := range 400 {
				w.drop(plane.Reason(1+i%16), 1500)
				if i%50 == 0 {
					time.Sleep(time.Second / 2)
					size, _ := onDisk(t, o.Dir)
					peak = max(peak, size)
				}
			}
			time.Sleep(after)
		}
		ids := w.ids()
		if peak > most || peak < most/2 || len(ids) < 2 || len(ids) > 20 {
			t.Errorf("%d bytes were on disk, %d recordings are", peak, len(ids))
		}
		if d := cmp.Diff(newest[len(newest)-len(ids):], ids); d != "" {
			t.Error(d)
		}
		w.stop()
		size, _ := onDisk(t, o.Dir)
		o.MaxSize = size - 1
		if d := cmp.Diff(ids[1:], run(t, o).ids()); d != "" {
			t.Errorf("with less room: %s", d)
		}
	})
}

// Jumps of drops, which anybody outside can cause, push out one another, and no recording of anything else.
func TestDropsPushOutDrops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most = 1 << 20
		w := run(t, Options{Dir: t.TempDir(), MaxSize: most})
		first, err := w.Record(t.Context(), "ann", "")
		check(t, err)
		time.Sleep(after + time.Second)
		for i := range 20 {
			for j := range 2000 {
				w.drop(quiet[j%len(quiet)], 1500)
			}
			w.trigger("drops", fmt.Sprint(i), "drops have jumped")
			time.Sleep(after + time.Second)
		}
		ids, size := w.ids(), int64(0)
		for _, r := range w.list().Recordings {
			if r.Trigger == "drops" {
				size += r.Bytes
			}
		}
		if ids[0] != first.ID || len(ids) < 2 || len(ids) > 20 || size > most/2 {
			t.Errorf("%d bytes of drops are left, of %q", size, ids)
		}
	})
}

// The list is by time, and within a second by number.
func TestOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		want := []string{
			"19990101T000000Z-operator", "20000101T000000Z-loop", "20000101T000000Z-operator", "20000101T000000Z-loop-2", "20000101T000000Z-operator-2", "20000101T000000Z-operator-10",
			"20000101T000001Z-drops",
		}
		for _, id := range want {
			check(t, os.WriteFile(filepath.Join(dir, id+ending), []byte("x"), 0o600))
		}
		if d := cmp.Diff(want, run(t, Options{Dir: dir}).ids()); d != "" {
			t.Error(d)
		}
	})
}

// There are a thousand recordings at most, however small.
func TestManySmallOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		for i := range mostFiles + 5 {
			check(t, os.WriteFile(filepath.Join(dir, time.Date(1999, 1, 1, 0, 0, i, 0, time.UTC).Format(stamp)+"-loop.pcapng"), []byte("x"), 0o600))
		}
		w := run(t, Options{Dir: dir})
		_, err := w.Record(t.Context(), "ann", "")
		check(t, err)
		time.Sleep(after + time.Second)
		if _, names := onDisk(t, dir); len(names) > mostFiles || len(names) < mostFiles-1 || names[len(names)-1] != "20000101T000000Z-operator.pcapng" {
			t.Errorf("%d files, the last one %s", len(names), names[len(names)-1])
		}
	})
}

// What a clock that was wrong has put into the future goes before what is new.
func TestFuture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := Options{Dir: t.TempDir(), MaxSize: leastSize}
		for _, id := range []string{"20990101T000000Z-loop", "20990101T000001Z-loop"} {
			check(t, os.WriteFile(filepath.Join(o.Dir, id+ending), make([]byte, leastSize/2), 0o600))
		}
		w := run(t, o)
		for range 2 {
			_, err := w.Record(t.Context(), "ann", "")
			check(t, err)
			time.Sleep(after + time.Second)
		}
		if d := cmp.Diff([]string{"20000101T000000Z-operator", "20000101T000006Z-operator"}, w.ids()); d != "" {
			t.Error(d)
		}
	})
}

// A file that is full ends the recording, which says so; the bytes of its packets are what a reader gets.
func TestFileIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		w := run(t, Options{Dir: dir})
		for i := range len(quiet) * keptOfReason {
			w.plane.show <- plane.Sample{At: time.Now(), Interface: "eth0", Reason: quiet[i%len(quiet)], Length: 1500, Head: make([]byte, 128)}
		}
		w.trigger("real-server", "rs1", "rs1 is dead")
		n := 0
		for ; len(w.files.list) == 0 && n < 100_000; n++ {
			head := bytes.Repeat([]byte{byte(n)}, 128)
			w.plane.show <- plane.Sample{At: time.Now(), Interface: "eth0", Reason: plane.DropDead, Length: 1500, Head: head}
			if n%100 == 0 {
				time.Sleep(time.Millisecond)
			}
			synctest.Wait()
		}
		list := w.list().Recordings
		if len(list) != 1 || list[0].Open || list[0].Bytes > largest || list[0].Bytes < largest*9/10 {
			t.Fatalf("after %d packets there is %+v", n, list)
		}
		c := w.read(list[0].ID)
		last := c.packets[len(c.packets)-1]
		if want := fmt.Sprintf("the recording ends early: its file has the %d bytes that one may have", largest); !strings.HasSuffix(last, want) || len(c.packets) < n {
			t.Errorf("%d of %d packets, the last one %s", len(c.packets), n, last)
		}
		for i, s := range c.samples[len(c.samples)-100:] {
			if s.Head[0] != s.Head[127] || byte(n-1-100+i) != s.Head[0] {
				t.Fatalf("packet %d from the end is %v", 100-i, s.Head)
			}
		}
	})
}

// Why a recording ends has room in a file that is full to the last byte.
func TestLastWord(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	r, err := newRecording(Options{Dir: dir, Words: func(plane.Sample) string { return "12345" }}, now.UTC().Format(stamp)+"-loop", Trigger{Kind: "loop"}, now, leastSize/2)
	check(t, err)
	for r.take(plane.Sample{At: now, Interface: "eth0", Length: 125, Head: make([]byte, 125)}) {
	}
	check(t, r.end(strings.Repeat("x", 500)))
	if size, _ := onDisk(t, dir); size > r.most || size < r.most-lastWord || size != r.listed.Bytes {
		t.Errorf("the file has %d bytes of %d, said are %d", size, r.most, r.listed.Bytes)
	}
}

// What is before a trigger leaves room for what is after it, also where files are small.
func TestSmallFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := run(t, Options{Dir: t.TempDir(), MaxSize: leastSize})
		for i := range len(quiet) * keptOfReason {
			w.plane.show <- plane.Sample{At: time.Now().Add(time.Duration(i)), Interface: "eth0", Reason: quiet[i%len(quiet)], Length: 200, Head: make([]byte, 128)}
		}
		time.Sleep(time.Millisecond)
		w.trigger("real-server", "rs1", "rs1 is dead")
		for i := range 50 {
			w.drop(plane.DropDead, 1000+i)
		}
		time.Sleep(after + time.Second)
		list := w.list().Recordings
		c := w.read(list[0].ID)
		n := len(c.samples)
		if list[0].Bytes > leastSize/2 || n < 150 || c.samples[n-1].Length != 1049 || c.samples[n-50].Length != 1000 || c.samples[n-51].At.Nanosecond() != len(quiet)*keptOfReason-1 {
			t.Errorf("%d bytes, %d packets, the last one %s", list[0].Bytes, n, c.packets[n-1])
		}
	})
	if _, err := Open(Options{Dir: t.TempDir(), MaxSize: leastSize - 1}); err == nil {
		t.Error("less is allowed")
	}
}

// A disk that fails ends a recording, once told; the next trigger tries again.
func TestDiskFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "blackbox")
		w := run(t, Options{Dir: dir})
		const missing = "no such file or directory"
		w.trigger("real-server", "rs1", "rs1 is dead")
		w.drop(plane.DropDead, 60)
		check(t, os.RemoveAll(dir))
		time.Sleep(after + time.Second)
		if l := w.list(); len(l.Recordings) != 0 || !strings.Contains(l.Error, "the last recording could not be written: ") || !strings.Contains(l.Error, missing) {
			t.Errorf("without a directory there is %+v", l)
		}
		for range 3 {
			w.drop(plane.DropLoop, 60)
			if rec, err := w.Record(t.Context(), "ann", ""); err == nil || !strings.Contains(err.Error(), missing) {
				t.Errorf("%+v is recorded: %v", rec, err)
			}
			time.Sleep(again + time.Second)
		}
		if n := w.list().Kept[1].Samples; n != 3 {
			t.Errorf("%d samples are kept meanwhile", n)
		}
		check(t, os.Mkdir(dir, 0o700))
		w.drop(plane.DropLoop, 60)
		time.Sleep(after + time.Second)
		if l := w.list(); len(l.Recordings) != 1 || l.Error != "" || len(w.read(l.Recordings[0].ID).packets) != 5 {
			t.Errorf("with a directory there is %+v", l)
		}
		var told []string
		for _, n := range *w.notes {
			n, _, _ = strings.Cut(n, ":")
			told = append(told, n)
		}
		if d := cmp.Diff([]string{"20000101T000000Z-real-server began", "20000101T000000Z-real-server cannot be written", "20000101T000024Z-loop began"}, told); d != "" {
			t.Error(d)
		}
	})
}

// What was written before a disk refused more is a recording, of whole packets.
func TestDiskRefusesMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		w := run(t, Options{Dir: dir})
		w.trigger("real-server", "rs1", "rs1 is dead")
		for i := range 100 {
			w.drop(plane.DropDead, 60+i)
		}
		time.Sleep(3 * time.Second)
		w.Recorder.asks <- func() { check(t, w.open.out.File.Close()) }
		for i := range 100 {
			w.drop(plane.DropDead, 160+i)
		}
		time.Sleep(after)
		l := w.list()
		if len(l.Recordings) != 1 || l.Recordings[0].Open || !strings.Contains(l.Error, fs.ErrClosed.Error()) {
			t.Fatalf("there is %+v", l)
		}
		if c := w.read(l.Recordings[0].ID); len(c.packets) != 99 {
			t.Errorf("there are %d packets", len(c.packets))
		}
		if size, _ := onDisk(t, dir); size != l.Recordings[0].Bytes {
			t.Errorf("%d bytes are on disk, %d in the list", size, l.Recordings[0].Bytes)
		}
	})
}

// Who asks for the file of a recording that goes on gets all that has come, whole, whatever is written meanwhile.
func TestReadWhileWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := run(t, Options{Dir: t.TempDir()})
		w.drop(plane.DropUnknown, 59)
		rec, err := w.Record(t.Context(), "ann", "")
		check(t, err)
		w.drop(plane.DropUnknown, 60)
		f, err := w.Recording(rec.ID)
		check(t, err)
		defer f.Close()
		for i := range 1000 {
			w.drop(plane.DropUnknown, 61+i)
		}
		time.Sleep(disorder + every)
		if c := parse(t, f); c.torn || len(c.packets) != 2 {
			t.Errorf("there are %q, torn: %v", c.packets, c.torn)
		}
		time.Sleep(after)
		if c := w.read(rec.ID); len(c.packets) != 1002 {
			t.Errorf("then there are %d", len(c.packets))
		}
	})
}

// A recording that somebody deleted is not there any more.
func TestDeletedByHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		w := run(t, Options{Dir: dir})
		rec, err := w.Record(t.Context(), "ann", "")
		check(t, err)
		time.Sleep(after + time.Second)
		check(t, os.Remove(filepath.Join(dir, rec.ID+ending)))
		if _, err := w.Recording(rec.ID); err == nil || len(w.ids()) != 0 {
			t.Errorf("%v, and the list is %q", err, w.ids())
		}
	})
}

// FuzzHeader: whatever is in a file, reading its beginning ends.
func FuzzHeader(f *testing.F) {
	dir := f.TempDir()
	now := time.Now()
	t := Trigger{Kind: "loop", Object: "rs1", Why: "because"}
	r, err := newRecording(Options{Dir: dir, Words: func(plane.Sample) string { return "dropped" }}, now.UTC().Format(stamp)+"-loop", t, now, largest)
	check(f, err)
	r.take(plane.Sample{At: now, Interface: "eth0", Length: 3, Head: []byte{1, 2, 3}})
	check(f, r.end(""))
	whole, err := os.ReadFile(filepath.Join(dir, r.listed.ID+ending))
	check(f, err)
	f.Add(whole)
	f.Add(whole[:60])
	f.Fuzz(func(t *testing.T, data []byte) {
		why, object, err := header(bytes.NewReader(data))
		if err == nil && (len(why) > maxWhy || len(object) > maxObject || strings.ContainsAny(why+object, "\n\x00")) {
			t.Errorf("%q about %q", why, object)
		}
	})
}
