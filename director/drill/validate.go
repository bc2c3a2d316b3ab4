package drill

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"tunneldirector/director/config/tree"
)

const (
	maxSteps   = 100
	maxTunnels = 1000
	maxLasting = 30 * time.Minute // of all waiting and settling
	maxFault   = 10 * time.Minute
)

var (
	drillRE = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,63}$`)
	nameRE  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$`)
)

// Validate says all that is wrong with a drill; the error is tree.Faults.
func (d *Drill) Validate() error {
	if list := d.faults(); len(list) > 0 {
		return list
	}
	return nil
}

// A checker gathers faults of values.
type checker struct{ faults tree.Faults }

func (c *checker) fault(path, format string, args ...any) {
	c.faults = append(c.faults, tree.Fault{Path: path, Problem: fmt.Sprintf(format, args...)})
}

func (c *checker) count(path string, n, low, high int) {
	if n < low || n > high {
		c.fault(path, "%d is not between %d and %d", n, low, high)
	}
}

func (c *checker) duration(path string, d, low, high time.Duration) {
	if d < low || d > high {
		c.fault(path, "%s is not between %s and %s", d, low, high)
	}
}

func (d *Drill) faults() tree.Faults {
	var c checker
	switch {
	case d.Name == "":
		c.fault("name", "is missing; write lower-case letters, digits and dashes")
	case !drillRE.MatchString(d.Name):
		c.fault("name", "%q is not a name: 1 to 64 lower-case letters, digits and dashes", d.Name)
	}
	if n := len(d.What); n == 0 || n > 400 || strings.ContainsAny(d.What, "\r\n") {
		c.fault("what", "has %d characters; say in one line, of at most 400, what is rehearsed", n)
	}
	c.count("needs.directors", d.Needs.Directors, 0, 256)
	c.count("needs.real_servers", d.Needs.RealServers, 0, 4096)
	c.count("needs.tunnels", d.Needs.Tunnels, 0, 10_000_000)
	c.count("sample.tunnels", d.Sample.Tunnels, 1, maxTunnels)
	c.duration("sample.every", d.Sample.Every, 10*time.Millisecond, 10*time.Second)
	c.steps(d.Steps)
	c.expect(&d.Expect, d.Steps)
	c.duration("abort.outage", d.Abort.Outage, time.Second, maxFault)
	c.count("abort.real_servers", d.Abort.RealServers, 0, 4096)
	c.count("abort.directors", d.Abort.Directors, 0, 256)
	c.count("abort.unplaced", d.Abort.Unplaced, 0, maxTunnels)
	return c.faults
}

func (c *checker) steps(steps []Step) {
	if n := len(steps); n == 0 || n > maxSteps {
		c.fault("steps", "has %d; write 1 to %d: wait, fault, emptied, undo or settle", n, maxSteps)
	}
	var lasting time.Duration
	inPlace := map[string]int{}
	for i, s := range steps {
		path := fmt.Sprintf("steps[%d]", i)
		c.step(path, s)
		lasting += s.Wait + s.Emptied + s.Settle
		if lasting > maxLasting {
			c.fault(path, "the steps wait for %s up to here; all may for %s", lasting, maxLasting)
			return
		}
		what := string(s.Fault) + " of " + s.Target
		switch first, twice := inPlace[what]; {
		case s.Emptied != 0 && !drains(steps[:i]):
			c.fault(path, "nothing is drained then that could be empty; put a fault: drain before it")
		case s.Undo:
			clear(inPlace)
		case s.Fault != "" && twice:
			c.fault(path, "%s is in place already, by steps[%d]; undo it first", what, first)
		case s.Fault != "":
			inPlace[what] = i
		}
	}
}

// drains tells whether a real server is drained after some steps.
func drains(steps []Step) (is bool) {
	for _, s := range steps {
		is = !s.Undo && (is || s.Fault == Drain)
	}
	return is
}

func (c *checker) step(path string, s Step) {
	n := 0
	for _, has := range []bool{s.Wait != 0, s.Fault != "", s.Emptied != 0, s.Undo, s.Settle != 0} {
		if has {
			n++
		}
	}
	if n != 1 {
		c.fault(path, "has %d of wait, fault, emptied, undo: true and settle; exactly one is a step", n)
		return
	}
	switch {
	case s.Wait != 0:
		c.duration(path+".wait", s.Wait, time.Millisecond, maxLasting)
	case s.Emptied != 0:
		c.duration(path+".emptied", s.Emptied, time.Second, maxFault)
	case s.Settle != 0:
		c.duration(path+".settle", s.Settle, time.Second, maxLasting)
	case s.Fault != "":
		c.duration(path+".for", s.For, time.Second, maxFault)
		c.target(path, s)
		return
	}
	if s.Target != "" {
		c.fault(path+".target", "%q: only a fault has a target; leave it out", s.Target)
	}
	if s.For != 0 {
		c.fault(path+".for", "%s: only a fault has a time after which it is undone; leave it out", s.For)
	}
}

// target checks whom a fault befalls.
func (c *checker) target(path string, s Step) {
	words := map[string][]string{"real server": {Busiest}, "director": {Owner, Assigner, Other}}[s.Fault.Befalls()]
	if s.Fault == DirectorRestart {
		words = append(words, Each)
	}
	all := []string{Busiest, Owner, Assigner, Other, Each}
	switch befalls := s.Fault.Befalls(); {
	case befalls == "":
		c.fault(path+".fault", "%q is not one of %s", s.Fault, strings.Join(Kinds(), ", "))
	case befalls == "cluster" && s.Target != "":
		c.fault(path+".target", "%q: %s befalls the cluster; leave it out", s.Target, s.Fault)
	case befalls == "cluster", slices.Contains(words, s.Target):
	case slices.Contains(all, s.Target):
		c.fault(path+".target", "%s befalls a %s, and cannot befall %q; write %s, or a name", s.Fault, befalls, s.Target, strings.Join(words, ", "))
	case !nameRE.MatchString(s.Target):
		c.fault(path+".target", "%q is no name of a %s; write one, or %s", s.Target, befalls, strings.Join(words, ", "))
	}
}

func (c *checker) expect(e *Expect, steps []Step) {
	c.duration("expect.outage.median", e.Outage.Median, 0, maxFault)
	c.duration("expect.outage.p99", e.Outage.P99, 0, maxFault)
	c.duration("expect.outage.worst", e.Outage.Worst, 0, maxFault)
	if e.Lost != nil && !(*e.Lost >= 0 && *e.Lost <= 100) {
		c.fault("expect.lost", "%v is not between 0 and 100 (percent of packets)", *e.Lost)
	}
	if list := []string{MovedNone, MovedTarget, MovedAny}; !slices.Contains(list, e.Moved) {
		c.fault("expect.moved", "%q is not one of %s", e.Moved, strings.Join(list, ", "))
	}
	if e.Refused && !slices.ContainsFunc(steps, func(s Step) bool { return s.Fault != "" }) {
		c.fault("expect.refused", "there is no fault that could be refused; add one to steps, or leave it out")
	}
}
