package load

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// Formats: Linux Documentation/filesystems/proc.rst and Documentation/scheduler/sched-stats.rst. prometheus/procfs reads the
// same, at several times the cost (BenchmarkParse): a terminator's hundreds of threads are read each second.

// ticks is how many there are in a second in the kernel's files (USER_HZ), whatever its own clock.
const ticks = 100

// times is what a core did, in ticks since boot.
type times struct {
	total, idle, interrupts, stolen uint64
}

// since is what it did after an earlier moment. Counters of idle time may go back a little.
func (t times) since(was times) times {
	less := func(a, b uint64) uint64 { return a - min(a, b) }
	return times{less(t.total, was.total), less(t.idle, was.idle), less(t.interrupts, was.interrupts), less(t.stolen, was.stolen)}
}

// of is a part's share.
func (t times) of(part uint64) float64 {
	if t.total == 0 {
		return 0
	}
	return min(1, float64(part)/float64(t.total))
}

func (t times) busy() float64 { return t.of(t.total - min(t.total, t.idle)) }

// parseCores reads /proc/stat: what each core did, by number.
func parseCores(b []byte) (map[int]times, error) {
	cores := map[int]times{}
	for line := range bytes.Lines(b) {
		rest, ok := bytes.CutPrefix(line, []byte("cpu"))
		if !ok {
			break // the cores come first
		}
		fields := bytes.Fields(rest)
		if len(fields) == 0 || rest[0] == ' ' {
			continue // of all cores
		}
		core, err := strconv.Atoi(string(fields[0]))
		if err != nil || core < 0 || len(fields) < 8 {
			return nil, fmt.Errorf("/proc/stat: core %q", line)
		}
		var v [8]uint64 // user, nice, system, idle, iowait, irq, softirq, steal; what follows is part of user
		for i := range v[:min(8, len(fields)-1)] {
			if v[i], err = number(fields[i+1]); err != nil {
				return nil, fmt.Errorf("/proc/stat: core %d: %w", core, err)
			}
		}
		t := times{idle: v[3] + v[4], interrupts: v[5] + v[6], stolen: v[7]}
		for _, n := range v {
			t.total += n
		}
		cores[core] = t
	}
	if len(cores) == 0 {
		return nil, errors.New("/proc/stat: no cores")
	}
	return cores, nil
}

// A task is a process or one of its threads.
type task struct {
	name  string
	ticks uint64 // of CPU
	start uint64 // ticks since boot: with its id, one of a kind
	core  int    // where it ran last
}

// parseTask reads a stat file of a process or thread.
func parseTask(b []byte) (task, error) {
	open, shut := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 0 || shut < open {
		return task{}, fmt.Errorf("stat of a task: no name in %.80q", b)
	}
	t := task{name: string(b[open+1 : shut])}
	field := 2 // the name, counted from 1
	for f := range bytes.FieldsSeq(b[shut+1:]) {
		field++
		var n uint64
		var err error
		switch field {
		case 14, 15, 22, 39:
			if n, err = number(f); err != nil {
				return task{}, fmt.Errorf("stat of task %q, field %d: %w", t.name, field, err)
			}
		}
		switch field {
		case 14, 15:
			t.ticks += n
		case 22:
			t.start = n
		case 39:
			t.core = int(min(n, 1<<20))
			return t, nil
		}
	}
	return task{}, fmt.Errorf("stat of task %q: %d fields", t.name, field)
}

// parseWait reads a schedstat file: nanoseconds that a task was ready and waited for a core.
func parseWait(b []byte) (uint64, error) {
	fields := bytes.Fields(b)
	if len(fields) < 2 {
		return 0, fmt.Errorf("schedstat of a task: %.80q", b)
	}
	return number(fields[1])
}

// number reads a number that leaves room for the sum of some.
func number(b []byte) (uint64, error) {
	n, err := strconv.ParseUint(string(b), 10, 60)
	if err != nil {
		return 0, fmt.Errorf("number %.40q", b)
	}
	return n, nil
}
