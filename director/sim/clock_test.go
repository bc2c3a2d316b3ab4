package sim

import (
	"sync/atomic"
	"time"
	"unsafe"
)

// A clock is a director's: its wall may be off and jump, while intervals are measured right, as between two readings of
// time.Now on a machine whose time is set.
type clock struct {
	began time.Time
	off   atomic.Int64 // seconds
}

func newClock() *clock { return &clock{began: time.Now()} }

// read is time.Now of a machine with this clock. In a bubble time.Now has no monotonic reading, and the package time
// lets nobody set one: it is put where it belongs.
func (c *clock) read() time.Time {
	now := time.Now()
	wall := now.Add(time.Duration(c.off.Load()) * time.Second)
	since1885 := uint64(wall.Unix() - time.Date(1885, 1, 1, 0, 0, 0, 0, time.UTC).Unix())
	type asInTime struct {
		wall uint64
		ext  int64
		loc  *time.Location
	}
	(*asInTime)(unsafe.Pointer(&wall)).wall = 1<<63 | since1885<<30 | uint64(wall.Nanosecond())
	(*asInTime)(unsafe.Pointer(&wall)).ext = int64(now.Sub(c.began)) + 1
	return wall
}

// set puts the wall off by whole seconds.
func (c *clock) set(off time.Duration) { c.off.Store(int64(off / time.Second)) }

func (c *clock) offset() time.Duration { return time.Duration(c.off.Load()) * time.Second }
