package main

import (
	"context"
	"net/netip"
	"time"

	loop "tunneldirector/director"
	"tunneldirector/director/doctor"
	"tunneldirector/director/plane"
	"tunneldirector/director/probe"
)

// kernel is what the daemon uses of this machine: one data plane, and what measures and holds for it.
type kernel struct {
	choice   planeChoice
	plane    plane.Plane
	host     loop.Host
	prober   loop.Prober                                                                         // nil with mem
	report   func(func(context.Context, loop.Verdict))                                           // whom to tell verdicts; before run
	ear      func(heard func(realServer string) time.Time, flooded func(realServer string) bool) // who knows when agents were last heard; before run; nil with mem
	turns    func(func() bool)                                                                   // who knows whether the loop turns, without which no address is renewed; before run
	probes   func() []probe.State                                                                // how real servers answered; nil with mem
	settings func() ([]doctor.Setting, error)                                                    // of the kernel's, that work against it; nil with mem
	warns    func() []string                                                                     // on what keeps it from forwarding; may be nil
	detail   func() []string                                                                     // of the interfaces, for people
	supplant func(context.Context) (was bool, err error)                                         // takes out what another plane has left; nil: nothing
	run      func(context.Context) error
	close    func() error
}

// idleKernel is that of a plane that forwards nothing: it probes nobody and holds no address.
func idleKernel(p plane.Plane) *kernel {
	return &kernel{
		plane: p, host: nowhere{},
		report: func(func(context.Context, loop.Verdict)) {},
		turns:  func(func() bool) {},
		detail: func() []string { return []string{"forwards nothing"} },
		run: func(ctx context.Context) error {
			<-ctx.Done()
			return nil
		},
		close: func() error { return nil },
	}
}

// nowhere is a Host without addresses.
type nowhere struct{}

func (nowhere) Local([]netip.Addr) ([]netip.Addr, []netip.Prefix, error) { return nil, nil, nil }
func (nowhere) Hold(context.Context, loop.Held) error                    { return nil }
func (nowhere) LinksUp() bool                                            { return true }
