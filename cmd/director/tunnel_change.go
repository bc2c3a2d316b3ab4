package main

import (
	"context"
	"strings"

	"github.com/urfave/cli/v2"

	"tunneldirector/cmd/console"
	"tunneldirector/director/api"
)

func tunnelAddCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "add", Aliases: []string{"put"}, Usage: "add a tunnel, or replace it", ArgsUsage: "ID",
		Description: console.Describe(`
Pushes one tunnel. It is durable and forwarded when the command returns. A tunnel of this id is
replaced as a whole: what is not said is empty afterwards.`,
			"director tunnel add site-0042 --service ipsec --endpoint 203.0.113.5 --subnet 100.64.40.32/28 --bandwidth 2M",
			"director tunnel add wg-7 --service wireguard --endpoint 203.0.113.9:41641 --subnet 100.64.7.0/24 --state coming"),
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "service", Usage: "service `NAME` that the site dials"},
			&cli.StringSliceFlag{Name: "endpoint", Usage: "public `ADDR` or ADDR:PORT of the site; may be repeated"},
			&cli.StringSliceFlag{Name: "subnet", Usage: "`PREFIX` behind the site; may be repeated"},
			&cli.StringFlag{Name: "bandwidth", Usage: "expected `RATE` in bit/s: 2000000, 2M, 1.5G"},
			&cli.StringFlag{Name: "group", Usage: "`NAME` of the group that shares a real server"},
			&cli.StringFlag{Name: "tenant", Usage: "`NAME` of the tenant whose subnets they are"},
			&cli.StringFlag{Name: "state", Usage: "`STATE`: down, coming or up"},
			&cli.StringSliceFlag{Name: "label", Usage: "`KEY=VALUE`; may be repeated"},
			&cli.StringSliceFlag{Name: "separate-from", Usage: "group or tunnel `NAME` that wants another real server; may be repeated"},
			&cli.Uint64Flag{Name: "generation", Usage: "`N` that rises with each push; a lower one than known is refused"},
		},
		Action: asks(env, console.Count{Min: 1, Max: 1}, addTunnel),
	}
}

func addTunnel(ctx context.Context, t *talk) error {
	tun := api.Tunnel{
		ID: t.Args().First(), Service: t.String("service"), Endpoints: t.list("endpoint"), Subnets: t.list("subnet"), Group: t.String("group"),
		Tenant: t.String("tenant"), State: t.String("state"), SeparateFrom: t.list("separate-from"), Generation: t.Uint64("generation"),
	}
	if tun.Service == "" {
		return console.Usage("director tunnel add lacks --service NAME; director service list names them")
	}
	if rate := t.String("bandwidth"); rate != "" {
		var err error
		if tun.Bandwidth, err = parseBits(rate); err != nil {
			return console.Usage("--bandwidth: %v", err)
		}
	}
	for _, l := range t.StringSlice("label") {
		k, v, ok := strings.Cut(l, "=")
		if !ok || k == "" {
			return console.Usage("--label %s: is not KEY=VALUE", l)
		}
		if tun.Labels == nil {
			tun.Labels = map[string]string{}
		}
		tun.Labels[k] = v
	}
	a, err := t.client.PutTunnel(ctx, tun)
	if err != nil {
		return err
	}
	return t.Show(a, func(p *console.Page) {
		p.Line("tunnel %s %s, %s", a.ID, changeWord(a.Changed, a.Created.Equal(a.Updated)), placementWords(a.Placement))
		for _, w := range a.Warnings {
			if strings.HasPrefix(w, unplacedNote) {
				continue // said above
			}
			p.Line("note: %s", w)
		}
	})
}

// unplacedNote begins the note on a tunnel that was accepted without a real server.
const unplacedNote = "unplaced: "

// list is a flag's values, which may be repeated or separated by commas.
func (t *talk) list(name string) []string {
	var out []string
	for _, v := range t.StringSlice(name) {
		for _, s := range strings.Split(v, ",") {
			if s = strings.TrimSpace(s); s != "" {
				out = append(out, s)
			}
		}
	}
	return out
}

func changeWord(changed, created bool) string {
	switch {
	case changed && created:
		return "created"
	case changed:
		return "changed"
	}
	return "unchanged"
}

func placementWords(pl *api.Placement) string {
	switch {
	case pl == nil:
		return "not placed yet"
	case pl.RealServer == "":
		return "unplaced: " + orWord(pl.Unplaced, "no reason told")
	}
	return "at real server " + pl.RealServer + ", backup " + orWord(pl.Backup, "none")
}

// A removal is what `rm` prints with --json for each object.
type removal struct {
	Name     string `json:"name"`
	Deleted  bool   `json:"deleted"`
	Revision string `json:"revision,omitempty"`
}

func tunnelRmCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "rm", Aliases: []string{"delete"}, Usage: "remove tunnels", ArgsUsage: "ID...",
		Description: console.Describe(`
Removes tunnels by id, up or not. One that does not exist is no error. To remove very many, import
lines like {"delete":"site-0042"}.`,
			"director tunnel rm site-0042 site-0043"),
		Flags: []cli.Flag{&cli.Uint64Flag{Name: "generation", Usage: "`N` of the push that this undoes; a lower one than known is refused"}},
		Action: streams(env, console.Count{Min: 1, Max: -1}, func(ctx context.Context, t *talk) error {
			return t.each(ctx, t.Args().Slice(), func(ctx context.Context, id string) error {
				a, err := t.client.DeleteTunnel(ctx, id, t.Uint64("generation"))
				if err != nil {
					return err
				}
				return t.Show(removal{id, a.Deleted, a.Revision}, func(p *console.Page) {
					p.Line("tunnel %s %s", id, map[bool]string{true: "removed", false: "did not exist"}[a.Deleted])
				})
			})
		}),
	}
}
