package main

import (
	"fmt"
	"time"
)

// rest is how long a director is left alone before its memory is read: it gives back what a push or a start left behind.
const rest = 5 * time.Second

// memory reads what the director takes at rest, and what it took at most. When says after what.
func (t *target) memory(when string) error {
	time.Sleep(rest)
	pid, err := listener(t.socket())
	if err != nil {
		return err
	}
	status, err := fields(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return err
	}
	few := min(t.n, 1000)
	lines, err := body(few)
	if err != nil {
		return err
	}
	pushed := one(float64(len(lines)) / float64(few))
	for _, m := range []struct{ key, name string }{
		{"VmRSS", ""}, {"VmHWM", ", highest"}, {"RssAnon", ", without mapped files"},
	} {
		s := one(float64(status[m.key]) * 1024 / float64(t.n))
		r := over(t.name("memory after a "+when+m.name), "bytes/tunnel", s, "its line of JSON", pushed)
		if m.key == "VmRSS" && t.n == million {
			r = r.valueAtMost(1024)
		}
		t.add(r)
	}
	return nil
}

// kernelMemory reads what the director's maps take.
func (t *target) kernelMemory() error {
	pid, err := listener(t.socket())
	if err != nil {
		return err
	}
	maps, err := bpfMaps(pid)
	if err != nil {
		return err
	}
	for _, m := range []struct{ bpf, name string }{{"td_pins4", "kernel memory, pins"}, {"td_subnets4", "kernel memory, subnets"}} {
		found, ok := maps[m.bpf]
		if !ok {
			return fmt.Errorf("the director holds no kernel map %s: %v", m.bpf, maps)
		}
		r := over(t.name(m.name), "bytes/entry", one(float64(found.memory)/float64(t.n)), "key and value", one(float64(found.entry)))
		if m.bpf == "td_pins4" && t.n == million {
			r = r.valueAtMost(24)
		}
		t.add(r)
	}
	return nil
}
