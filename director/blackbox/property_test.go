package blackbox

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"tunneldirector/director/plane"
)

// An act is something that happens to a recorder.
type act struct {
	kind   string
	n      int
	reason plane.Reason
	intf   string
	object string
	length int
	late   time.Duration // how long after it was dropped a packet is shown
}

func drawAct(rt *rapid.T) act {
	return act{
		kind:   rapid.SampledFrom([]string{"drop", "drop", "drop", "drop", "flood", "wait", "wait", "trigger", "record", "read", "restart"}).Draw(rt, "act"),
		n:      rapid.IntRange(1, 9).Draw(rt, "n"),
		reason: plane.Reason(rapid.IntRange(0, 33).Draw(rt, "reason")),
		intf:   rapid.SampledFrom([]string{"eth0", "eth1", "", "director", "bond0.17"}).Draw(rt, "interface"),
		object: rapid.SampledFrom([]string{"rs1", "rs2", "", "\n\xff"}).Draw(rt, "object"),
		length: rapid.IntRange(0, 300).Draw(rt, "length"),
		late:   rapid.SampledFrom([]time.Duration{0, 0, time.Microsecond, disorder / 2}).Draw(rt, "late"),
	}
}

// Whatever is dropped and triggers, and whenever the director ends: all files can be read, what is on disk is within its size, and a
// packet is in a file once at most, by time.
func TestAnyHistory(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		acts := rapid.SliceOfN(rapid.Custom(drawAct), 1, 60).Draw(rt, "acts")
		most := rapid.SampledFrom([]int64{leastSize, 300 << 10, 64 << 20}).Draw(rt, "size")
		dir := t.TempDir()
		var wrong []string
		synctest.Test(t, func(t *testing.T) {
			h := &history{t: t, o: Options{Dir: dir, MaxSize: most}}
			h.world = run(t, h.o)
			for _, a := range acts {
				h.do(a)
				if size, _ := onDisk(t, dir); size > most {
					h.wrong = append(h.wrong, fmt.Sprintf("%d bytes are on disk", size))
				}
			}
			h.stop()
			h.do(act{kind: "restart"})
			h.readAll()
			wrong = h.wrong
		})
		if len(wrong) > 0 {
			rt.Fatal(strings.Join(wrong, "\n"))
		}
	})
}

// A history is a recorder and what happened to it.
type history struct {
	*world
	t     *testing.T
	o     Options
	next  uint32 // number of a packet, in its head
	early []string
	wrong []string
}

func (h *history) do(a act) {
	switch a.kind {
	case "drop":
		h.packet(a)
	case "flood":
		for range a.n * 100 {
			h.packet(a)
		}
	case "wait":
		time.Sleep(time.Duration(a.n*a.n) * 300 * time.Millisecond)
	case "trigger":
		h.trigger("real-server", a.object, "dead")
	case "record":
		if _, err := h.Record(h.t.Context(), a.object, a.object); err != nil {
			h.wrong = append(h.wrong, err.Error())
		}
	case "read":
		list := h.list().Recordings
		if len(list) == 0 {
			return
		}
		r := list[(a.n-1)%len(list)]
		if r.Open { // what comes late now is not in its place
			h.early = append(h.early, r.ID)
		}
		h.file(r.ID)
	case "restart":
		h.stop()
		h.world = run(h.t, h.o)
	}
}

// packet shows one that was dropped a while ago, maybe before one that was shown.
func (h *history) packet(a act) {
	time.Sleep(time.Microsecond)
	h.next++
	head := make([]byte, a.length)
	if a.length < 4 {
		head = make([]byte, 4)
	}
	binary.BigEndian.PutUint32(head, h.next)
	h.plane.show <- plane.Sample{At: time.Now().Add(-a.late), Interface: a.intf, Reason: a.reason, RealServer: 1, Length: a.length, Head: head, Watched: a.n == 1}
	synctest.Wait()
}

func (h *history) readAll() {
	for _, r := range h.list().Recordings {
		h.file(r.ID)
		if r.Bytes > min(largest, h.o.MaxSize/2) {
			h.wrong = append(h.wrong, fmt.Sprintf("%s has %d bytes", r.ID, r.Bytes))
		}
	}
}

// file reads one, and says what is wrong with it.
func (h *history) file(id string) {
	f, err := h.Recording(id)
	if errors.Is(err, fs.ErrNotExist) {
		return // deleted for its age
	}
	if err != nil {
		h.wrong = append(h.wrong, err.Error())
		return
	}
	defer f.Close()
	c := parse(h.t, f)
	if c.torn {
		h.wrong = append(h.wrong, id+" is torn")
	}
	if !slices.IsSortedFunc(c.samples, byTime) && !slices.Contains(h.early, id) {
		h.wrong = append(h.wrong, id+" is not by time")
	}
	seen := map[uint32]bool{}
	for i, s := range c.samples {
		n := binary.BigEndian.Uint32(s.Head)
		if seen[n] || n == 0 || n > h.next {
			h.wrong = append(h.wrong, fmt.Sprintf("%s: packet %d is number %d", id, i, n))
		}
		seen[n] = true
		if !strings.Contains(c.packets[i], "dropped (") {
			h.wrong = append(h.wrong, fmt.Sprintf("%s: %s has no comment", id, c.packets[i]))
		}
	}
}
