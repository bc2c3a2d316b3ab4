package main

import (
	"context"
	"strings"

	"github.com/urfave/cli/v2"

	"tunneldirector/cmd/console"
	"tunneldirector/director/api"
)

func serviceCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "service", Usage: "list and remove virtual services",
		Description: console.Describe(`
A virtual service is what sites dial: virtual IPs and the protocols that are balanced there. Services
are made by director apply.`,
			"director service list"),
		Subcommands: []*cli.Command{
			{
				Name: "list", Aliases: []string{"ls"}, Usage: "list virtual services",
				Description: console.Describe(`Lists virtual services and how many tunnels each has.`, "director service list", "director service list --json"),
				Action:      asks(env, console.Count{}, listServices),
			},
			{
				Name: "rm", Aliases: []string{"delete"}, Usage: "remove virtual services", ArgsUsage: "NAME...",
				Description: console.Describe(`Removes virtual services that no tunnel and no real server names.`, "director service rm old"),
				Action: streams(env, console.Count{Min: 1, Max: -1}, func(ctx context.Context, t *talk) error {
					return t.each(ctx, t.Args().Slice(), func(ctx context.Context, name string) error {
						a, err := t.client.DeleteService(ctx, name)
						if err != nil {
							return err
						}
						return t.changed("service "+name, a, "removed")
					})
				}),
			},
		},
	}
}

func listServices(ctx context.Context, t *talk) error {
	list, err := t.client.Services(ctx)
	if err != nil {
		return err
	}
	if list == nil {
		list = []api.ServiceState{}
	}
	return t.Show(map[string][]api.ServiceState{"services": list}, func(p *console.Page) {
		if len(list) == 0 {
			t.note("no services; make them with director apply FILE")
			return
		}
		var rows [][]string
		for _, s := range list {
			rows = append(rows, []string{s.Name, strings.Join(s.VIPs, " "), strings.Join(s.Protocols, " "), s.Method, s.Unknown, s.Policy, map[bool]string{true: "yes"}[s.Learn],
				unlessZero(uint64(s.MaxUnavailable)), console.Number(s.Tunnels)})
		}
		p.Table([]console.Column{{Name: "name"}, {Name: "virtual ips"}, {Name: "protocols"}, {Name: "method"}, {Name: "unknown endpoints"}, {Name: "placement"},
			{Name: "learns"}, {Name: "max unavailable", Right: true}, {Name: "tunnels", Right: true}}, rows)
	})
}
