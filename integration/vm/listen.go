package vm

import (
	"fmt"
	"io"
	"time"

	"tunneldirector/integration/vm/wire"
)

// listener makes a report of the guest's events.
type listener struct {
	job     Job
	up      func() // called when the guest has come up
	begun   time.Time
	report  Report
	doing   string     // what the guest was doing when it was last heard of
	problem string     // its own words about why it failed
	done    bool       // all has run
	current *converter // of the program that runs
	started float64    // when that one did, by the guest's clock
}

func newListener(job Job, up func()) *listener {
	return &listener{job: job, up: up, begun: time.Now(), doing: "it was booting"}
}

// listen reads the guest's events to their end.
func (l *listener) listen(r io.Reader) error {
	err := wire.Read(r, len(l.job.Tests), l.take)
	if l.current != nil { // the guest ended within a program
		closed := l.finish(wire.Event{Code: -1, Problem: "the guest ended before its tests did"})
		if err == nil {
			err = closed
		}
	}
	return err
}

func (l *listener) take(e wire.Event) (err error) {
	switch e.Kind {
	case wire.Booted:
		l.up()
		l.report.Boot, l.report.Release = time.Since(l.begun), e.Release
		l.job.Logger.Info("guest is up", "kernel", e.Release, "after", l.report.Boot.Round(time.Millisecond))
	case wire.Start:
		if l.current != nil || e.Program != len(l.report.Suites) {
			return fmt.Errorf("the guest starts program %d out of order", e.Program)
		}
		t := l.job.Tests[e.Program]
		l.doing, l.started = fmt.Sprintf("it ran the tests of %s", t.Package), e.Uptime
		l.current, err = convert(t, l.job.Live)
	case wire.Output:
		if l.current == nil {
			return fmt.Errorf("the guest sends output of program %d, which does not run", e.Program)
		}
		_, err = l.current.Write(e.Data)
	case wire.Exit:
		if l.current == nil {
			return fmt.Errorf("the guest ends program %d, which does not run", e.Program)
		}
		l.doing = "it was between programs"
		err = l.finish(e)
	case wire.Failed:
		l.problem = e.Problem
	case wire.Done:
		l.done = true
	}
	return err
}

// finish ends the current program.
func (l *listener) finish(e wire.Event) error {
	c := l.current
	l.current = nil
	err := c.close()
	s := c.suite
	s.Code, s.Problem, s.Wall = e.Code, e.Problem, time.Duration(max(e.Uptime-l.started, 0)*float64(time.Second))
	l.report.Suites = append(l.report.Suites, s)
	return err
}
