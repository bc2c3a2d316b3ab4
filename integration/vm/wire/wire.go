// Package wire is what the two sides of the virtual machine say to each other: the host hands a Job to the guest in a file,
// the guest answers with a stream of Events, a line of JSON each.
package wire

import (
	"encoding/json"
	"fmt"
	"io"
)

// Where the guest finds things and puts them.
const (
	JobFile = "/lab/job.json" // the Job
	Lab     = "/lab"          // test programs and files of the job
	Out     = "/out"          // what is left here goes to the host
)

// Names of the virtio-serial ports; in the guest /dev/virtio-ports/<name> or the port of that name in sysfs.
const (
	EventPort = "events"
	OutPort   = "out"
)

// Job is what the guest runs, one after the other.
type Job struct {
	Programs []Program `json:"programs"`
}

// Program is one command of a Job.
type Program struct {
	Args    []string `json:"args"`
	Dir     string   `json:"dir"`
	Env     []string `json:"env"`
	Seconds int      `json:"seconds"` // it is killed after that time
}

// Kind says what an Event is about.
type Kind string

const (
	Booted Kind = "booted" // the guest is up; Release is set
	Start  Kind = "start"  // program Program starts
	Output Kind = "output" // program Program wrote Data
	Exit   Kind = "exit"   // program Program has ended; Code, and Problem where it did not end by itself
	Done   Kind = "done"   // all programs have run
	Failed Kind = "failed" // the guest could not do its work: Problem
)

// Event is one line from the guest.
type Event struct {
	Kind    Kind    `json:"kind"`
	Program int     `json:"program,omitempty"`
	Data    []byte  `json:"data,omitempty"`
	Code    int     `json:"code,omitempty"`
	Problem string  `json:"problem,omitempty"`
	Release string  `json:"release,omitempty"` // of the kernel
	Uptime  float64 `json:"uptime,omitempty"`  // seconds since the kernel started
}

// Read calls f for each event of r until r ends, f fails or something is no event of a job of so many programs.
// A stream that ends within an event is an io.ErrUnexpectedEOF.
func Read(r io.Reader, programs int, f func(Event) error) error {
	d := json.NewDecoder(r)
	d.DisallowUnknownFields()
	for {
		var e Event
		if err := d.Decode(&e); err == io.EOF {
			return nil
		} else if err != nil {
			return fmt.Errorf("read the guest's events: %w", err)
		}
		if err := e.check(programs); err != nil {
			return fmt.Errorf("read the guest's events: %w", err)
		}
		if err := f(e); err != nil {
			return err
		}
	}
}

func (e Event) check(programs int) error {
	switch e.Kind {
	case Booted, Done, Failed:
		return nil
	case Start, Output, Exit:
		if e.Program < 0 || e.Program >= programs {
			return fmt.Errorf("event %q of program %d, but there are %d", e.Kind, e.Program, programs)
		}
		return nil
	}
	return fmt.Errorf("unknown event %q", e.Kind)
}
