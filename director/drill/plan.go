package drill

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrNotReady is wrapped by what Run and NewPlan return if what a drill needs is not there. Nothing was done then.
var ErrNotReady = errors.New("not ready for this drill")

// Options are what a caller of Run has a say in.
type Options struct {
	World    string            // live or lab, for the Result
	Sample   []string          // tunnels that have to be in the sample
	Targets  map[string]string // names to use instead of words or names of the drill; "" stands for the target of its first fault
	Progress func(what string) // is told what happens while it does, by one goroutine at a time; nil: nobody
}

// A Plan is what a drill would do: whom it would befall, and which tunnels packets would be sent through.
type Plan struct {
	Sample  []Tunnel
	Targets map[string]string // the name for each target of the drill but Each; may be given to Run as Options.Targets
	Each    []string          // the directors that Each stands for
}

// NewPlan works out what Run would do now. The error wraps ErrNotReady, and lists all that is missing.
func NewPlan(s State, d *Drill, o Options) (*Plan, error) {
	p := &planning{s: s, d: d, o: o, plan: &Plan{Targets: map[string]string{}}}
	p.needs()
	p.targets()
	p.sample()
	if len(p.missing) > 0 {
		return nil, fmt.Errorf("%w: %s", ErrNotReady, strings.Join(p.missing, "; "))
	}
	return p.plan, nil
}

type planning struct {
	s       State
	d       *Drill
	o       Options
	plan    *Plan
	struck  []string // real servers that are targets
	missing []string
}

func (p *planning) lacks(format string, args ...any) {
	p.missing = append(p.missing, fmt.Sprintf(format, args...))
}

func (p *planning) needs() {
	if p.s.Unsettled != "" {
		p.lacks("not all is as in peace: %s", p.s.Unsettled)
	}
	for _, need := range []struct {
		thing, is string
		has, want int
	}{
		{"director", "ready", count(p.s.Directors, func(x Director) bool { return x.Ready }), p.d.Needs.Directors},
		{"real server", "alive", count(p.s.RealServers, func(x RealServer) bool { return x.Alive }), p.d.Needs.RealServers},
		{"tunnel", "up", count(p.s.Tunnels, func(x Tunnel) bool { return x.Up }), p.d.Needs.Tunnels},
	} {
		if need.has < need.want {
			p.lacks("%s %s, and it needs %d", some(need.has, need.thing), need.is, need.want)
		}
	}
}

func count[T any](list []T, is func(T) bool) (n int) {
	for _, x := range list {
		if is(x) {
			n++
		}
	}
	return n
}

// exists checks that there is whom a fault is to befall.
func (p *planning) exists(k Kind, word, name string) {
	switch {
	case name == "":
		p.lacks("there is no %s now that is called %s", k.Befalls(), word)
	case k.Befalls() == "director":
		if !slices.ContainsFunc(p.s.Directors, func(d Director) bool { return d.Name == name && d.Ready }) {
			p.lacks("there is no director %s that is ready", name)
		}
	default:
		i := slices.IndexFunc(p.s.RealServers, func(r RealServer) bool { return r.Name == name && r.Alive })
		if i < 0 {
			p.lacks("there is no real server %s that is alive", name)
			return
		}
		p.struck = append(p.struck, name)
		p.spare(p.s.RealServers[i])
	}
}

// spare checks that the others have room for what the host of a target carries.
func (p *planning) spare(target RealServer) {
	if !p.d.Needs.Spare {
		return
	}
	carries, room, others, closed := 0, 0, 0, ""
	for _, r := range p.s.RealServers {
		switch {
		case r.Name == target.Name || r.Host != "" && r.Host == target.Host:
			carries += r.Tunnels
		case r.Alive && r.Closed != "":
			closed += fmt.Sprintf("; %s gets no new tunnels: %s", r.Name, r.Closed)
		case r.Alive && r.Capacity == 0:
			return
		case r.Alive:
			others, room = others+1, room+max(0, r.Capacity-r.Tunnels)
		}
	}
	if others == 0 || room < carries {
		p.lacks("the other real servers have room for %s, and the host of %s carries %d%s", some(room, "tunnel"), target.Name, carries, closed)
	}
}
