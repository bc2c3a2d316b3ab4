package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"tunneldirector/cmd/console"
	"tunneldirector/director/api"
)

func drainCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "drain", Usage: "let real servers take no new tunnels, and empty them", ArgsUsage: "NAME...",
		Description: console.Describe(`
A drained real server takes no new tunnels, as primary or backup. Without more its tunnels stay: move
them with repin, those that are down with rebalance. With --rate they are moved, those that are down
first, and established anew by the agents on the real servers that get them; with --deadline all that
are left then are moved at once. Where there is no room they stay, and are tried again. Nothing moves
while the director is frozen. It stays drained until undrain. A service's max_unavailable refuses one
drain too many.

--watch waits until they are empty. Ctrl-C ends the watching (exit code 130), not the drain.`,
			"director realserver drain rs2", "director realserver drain rs2 --rate 20/s --deadline 2h --watch"),
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "rate", Usage: "move `N/s` tunnels, at most 1000/s; 0.5/s is one in 2 s"},
			&cli.StringFlag{Name: "deadline", Usage: "move all that is left at `TIME`: a duration from now like 2h, or 2027-01-31T18:00:00Z; at most 30 days"},
			&cli.BoolFlag{Name: "watch", Usage: "tell how far it is until they are empty"},
		},
		Action: streams(env, console.Count{Min: 1, Max: -1}, drainRealServers),
	}
}

func drainRealServers(ctx context.Context, t *talk) error {
	r := api.DrainRequest{Rate: api.DrainRate(t.String("rate")), Deadline: t.String("deadline")}
	for _, flag := range []string{"rate", "deadline"} {
		if t.IsSet(flag) && t.String(flag) == "" {
			return console.Usage("--%s is empty; leave it out, or see %s --help", flag, t.Command.HelpName)
		}
	}
	if t.Bool("watch") && r == (api.DrainRequest{}) {
		return console.Usage("--watch: nothing moves without --rate or --deadline")
	}
	var begun []string
	err := t.each(ctx, t.Args().Slice(), func(ctx context.Context, name string) error {
		a, err := t.client.Drain(ctx, name, r)
		if err != nil {
			return err
		}
		begun = append(begun, name)
		return t.drained(ctx, name, a)
	})
	if len(begun) == 0 || !t.Bool("watch") {
		return err
	}
	w := drainWatch{t: t, names: begun, every: time.Second, told: map[string]tellDrain{}}
	if werr := w.run(ctx); werr != nil {
		return werr
	}
	return err
}

// A drained is what `drain` prints with --json for each real server.
type drained struct {
	Object string `json:"object"`
	api.Changed
	Drain *api.DrainStatus `json:"drain,omitempty"`
	Room  []room           `json:"room"`
}

// A room is what another real server can take of a drained one's tunnels.
type room struct {
	RealServer string  `json:"real_server"`
	Free       *uint32 `json:"free,omitempty"` // nil: without limit
	Closed     string  `json:"closed,omitempty"`
}

// drained prints what a drain began with, and where there is room.
func (t *talk) drained(ctx context.Context, name string, a api.Changed) error {
	list, err := t.client.RealServers(ctx)
	if err != nil {
		return err
	}
	out := drained{Object: "real server " + name, Changed: a, Room: []room{}}
	i := slices.IndexFunc(list, func(r api.RealServerState) bool { return r.Name == name })
	if i < 0 || list[i].Status == nil {
		return t.changed(out.Object, a, "drained, and removed meanwhile")
	}
	if out.Drain = list[i].Status.Drain; out.Drain == nil {
		return t.changed(out.Object, a, "drained: no new tunnels; those that it has stay")
	}
	out.Room = roomFor(&list[i], list)
	return t.Show(out, func(p *console.Page) {
		verb := "drained"
		if !a.Changed {
			verb = "is drained so already"
		}
		p.Line("%s %s: %s", out.Object, verb, drainWords(t.Now(), out.Drain))
		for _, r := range out.Room {
			switch {
			case r.Closed != "":
				p.Line("  no room at %s: %s", r.RealServer, r.Closed)
			case r.Free == nil:
				p.Line("  room at %s: no limit", r.RealServer)
			default:
				p.Line("  room at %s: %s", r.RealServer, console.Some(*r.Free, "tunnel"))
			}
		}
		for _, w := range a.Warnings {
			p.Line("note: %s", w)
		}
	})
}

// roomFor is what the others that serve one of a real server's services can take.
func roomFor(of *api.RealServerState, list []api.RealServerState) []room {
	out := []room{}
	for _, r := range list {
		if r.Name == of.Name || r.Status == nil || !slices.ContainsFunc(r.Services, func(s string) bool { return slices.Contains(of.Services, s) }) {
			continue
		}
		x := room{RealServer: r.Name}
		switch {
		case r.State != "alive":
			x.Closed = "it is " + r.State
		case r.Admin != "active":
			x.Closed = "it is drained"
		case r.Weight != nil && *r.Weight == 0:
			x.Closed = "its weight is 0"
		case r.Status.Agent != nil && r.Status.Agent.Closed != "":
			x.Closed = r.Status.Agent.Closed
		case r.Capacity > 0 && r.Status.Tunnels >= r.Capacity:
			x.Closed = "it has as many tunnels as its capacity"
		case r.Capacity > 0:
			free := r.Capacity - r.Status.Tunnels
			x.Free = &free
		}
		out = append(out, x)
	}
	return out
}

// drainWords is how a drain stands, in a sentence.
func drainWords(now time.Time, d *api.DrainStatus) string {
	switch {
	case d.Left == 0 && d.Of == 0:
		return "it has no tunnels"
	case d.Left == 0:
		return "it has no tunnels any more"
	}
	parts := []string{fmt.Sprintf("%s of %s left", console.Number(d.Left), console.Some(max(d.Of, d.Left), "tunnel"))}
	if d.Rate > 0 {
		parts = append(parts, "moved at "+strconv.FormatFloat(d.Rate, 'f', -1, 64)+"/s")
	}
	if d.Deadline != nil {
		parts = append(parts, "the rest at "+until(now, *d.Deadline))
	}
	if d.ETA != nil && (d.Deadline == nil || d.ETA.Before(*d.Deadline)) {
		parts = append(parts, "empty by "+until(now, *d.ETA))
	} else if d.ETA == nil {
		parts = append(parts, "nothing moves now: automatic moves are frozen")
	}
	return strings.Join(parts, ", ") + after("; stuck: ", d.Stuck)
}

func undrainCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "undrain", Usage: "let drained real servers take new tunnels again", ArgsUsage: "NAME...",
		Description: console.Describe(`
Undoes drain, and stops one that is under way. Nothing moves back by itself; rebalance evens out the
load.`,
			"director realserver undrain rs2"),
		Action: streams(env, console.Count{Min: 1, Max: -1}, func(ctx context.Context, t *talk) error {
			return t.each(ctx, t.Args().Slice(), func(ctx context.Context, name string) error {
				a, err := t.client.Undrain(ctx, name)
				if err != nil {
					return err
				}
				return t.changed("real server "+name, a, "takes new tunnels again")
			})
		}),
	}
}
