package main

import (
	"context"
	"strings"

	"github.com/urfave/cli/v2"

	"tunneldirector/cmd/console"
	"tunneldirector/director/api"
)

func tenantCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "tenant", Usage: "list and remove tenants",
		Description: console.Describe(`
A tenant is a customer with a subnet space of its own. Its covering prefixes hold all its subnets;
inside them a packet that no tunnel claims is dropped. Tenants are made by director apply.`,
			"director tenant list"),
		Subcommands: []*cli.Command{
			{
				Name: "list", Aliases: []string{"ls"}, Usage: "list tenants",
				Description: console.Describe(`Lists tenants and their covering prefixes. Tunnels that name no tenant are the default one's.`, "director tenant list", "director tenant list --json"),
				Action:      asks(env, console.Count{}, listTenants),
			},
			{
				Name: "rm", Aliases: []string{"delete"}, Usage: "remove tenants", ArgsUsage: "NAME...",
				Description: console.Describe(`Removes tenants that no tunnel names.`, "director tenant rm customer-a"),
				Action: streams(env, console.Count{Min: 1, Max: -1}, func(ctx context.Context, t *talk) error {
					return t.each(ctx, t.Args().Slice(), func(ctx context.Context, name string) error {
						a, err := t.client.DeleteTenant(ctx, name)
						if err != nil {
							return err
						}
						return t.changed("tenant "+name, a, "removed")
					})
				}),
			},
		},
	}
}

func listTenants(ctx context.Context, t *talk) error {
	list, err := t.client.Tenants(ctx)
	if err != nil {
		return err
	}
	if list == nil {
		list = []api.TenantState{}
	}
	return t.Show(map[string][]api.TenantState{"tenants": list}, func(p *console.Page) {
		if len(list) == 0 {
			t.note("no tenants; make them with director apply FILE")
			return
		}
		var rows [][]string
		for _, n := range list {
			rows = append(rows, []string{n.Name, strings.Join(n.Covers, " "), console.Number(n.Number), console.Ago(t.Now(), n.Updated)})
		}
		p.Table([]console.Column{{Name: "name"}, {Name: "covers"}, {Name: "number", Right: true}, {Name: "updated"}}, rows)
	})
}
