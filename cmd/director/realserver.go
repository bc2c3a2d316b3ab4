package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"tunneldirector/cmd/console"
	"tunneldirector/director/api"
)

func realServerCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "realserver", Aliases: []string{"rs"}, Usage: "list, show, add, drain, weigh and remove real servers",
		Description: console.Describe(`
A real server is one instance of a tunnel terminator, at an address on the real servers' network.`,
			"director realserver list", "director realserver drain rs2 --rate 20/s --deadline 2h"),
		Subcommands: []*cli.Command{
			realServerListCommand(env), realServerShowCommand(env), realServerAddCommand(env), drainCommand(env), undrainCommand(env), realServerOrdersCommand(env),
			realServerWeightCommand(env), realServerRmCommand(env),
		},
	}
}

func realServerListCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "list", Aliases: []string{"ls"}, Usage: "list real servers, their life and load",
		Description: console.Describe(`
Lists real servers. State: new (not seen alive yet), alive, dead. Tunnels are those whose primary it
is; backup for, those that it would inherit. Agent is what the agent there says of its terminator:
working, headless (the control process is gone, established tunnels go on) or dead; silent if it does
not speak to this director. Load is the terminator's, of its limit.

With --pairs: what the addresses mean that ipvsadm and ip route show with plane ipvs, where each
stands for a primary and its backup.`,
			"director realserver list", "director realserver list --service ipsec --json", "director realserver list --pairs"),
		Flags: []cli.Flag{&cli.StringFlag{Name: "service", Usage: "only those of the service `NAME`"},
			&cli.BoolFlag{Name: "pairs", Usage: "list what pair addresses stand for instead (plane ipvs)"}},
		Action: asks(env, console.Count{}, func(ctx context.Context, t *talk) error {
			if t.Bool("pairs") {
				return listPairs(ctx, t)
			}
			list, err := t.client.RealServers(ctx)
			if err != nil {
				return err
			}
			if s := t.String("service"); s != "" {
				list = slices.DeleteFunc(list, func(r api.RealServerState) bool { return !slices.Contains(r.Services, s) })
			}
			if list == nil {
				list = []api.RealServerState{}
			}
			return t.Show(map[string][]api.RealServerState{"real_servers": list}, func(p *console.Page) {
				if len(list) == 0 {
					t.note("no real servers")
					return
				}
				t.realServerTable(p, list)
			})
		}),
	}
}

func listPairs(ctx context.Context, t *talk) error {
	list, err := t.client.Pairs(ctx)
	if err != nil {
		return err
	}
	return t.Show(api.PairList{Pairs: list}, func(p *console.Page) {
		if len(list) == 0 {
			t.note("no pairs are in use")
			return
		}
		pairTable(p, list)
	})
}

func (t *talk) realServerTable(p *console.Page, list []api.RealServerState) {
	var rows [][]string
	for _, r := range list {
		st := r.Status
		if st == nil {
			st = &api.RealServerStatus{}
		}
		since := ""
		if r.Since != nil {
			since = console.Ago(t.Now(), *r.Since)
		}
		weight := ""
		if r.Weight != nil {
			weight = console.Number(*r.Weight)
		}
		rows = append(rows, []string{r.Name, r.State, r.Admin, since, hostWord(r.Host, r.Zone), strings.Join(r.Addresses, " "), strings.Join(r.Services, " "),
			weight, tunnelsOf(st.Tunnels, r.Capacity), console.Number(st.BackupFor), bits(st.BandwidthBPS), rtt(st.RTTMicros), agentWord(st.Agent), loadWord(st.Agent)})
	}
	p.Table([]console.Column{{Name: "name"}, {Name: "state"}, {Name: "admin"}, {Name: "since"}, {Name: "host"}, {Name: "addresses"}, {Name: "services"},
		{Name: "weight", Right: true}, {Name: "tunnels", Right: true}, {Name: "backup for", Right: true}, {Name: "expected", Right: true}, {Name: "rtt", Right: true}, {Name: "agent"},
		{Name: "load", Right: true}}, rows)
	for _, r := range list {
		if r.State == "dead" || r.State == "new" {
			p.Line("%s is %s: %s", r.Name, r.State, orWord(r.Cause, "not seen alive yet"))
		}
		if r.Status != nil && r.Status.Drain != nil {
			p.Line("%s is drained: %s", r.Name, drainWords(t.Now(), r.Status.Drain))
		}
		if r.Status != nil && r.Status.Agent != nil && r.Status.Agent.Closed != "" {
			p.Line("%s gets no new tunnels: %s", r.Name, r.Status.Agent.Closed)
		}
	}
}

func hostWord(host, zone string) string {
	if zone == "" {
		return host
	}
	return host + " @ " + zone
}

func tunnelsOf(n, capacity uint32) string {
	if capacity == 0 {
		return console.Number(n)
	}
	return console.Number(n) + "/" + console.Number(capacity)
}

func rtt(micros int64) string {
	if micros == 0 {
		return ""
	}
	return (time.Duration(micros) * time.Microsecond).String()
}

// changed prints what became of a service, a tenant or a real server.
func (t *talk) changed(what string, a api.Changed, verb string) error {
	return t.Show(struct {
		Object string `json:"object"`
		api.Changed
	}{what, a}, func(p *console.Page) {
		if !a.Changed {
			verb = "is so already"
		}
		p.Line("%s %s", what, verb)
		for _, w := range a.Warnings {
			p.Line("note: %s", w)
		}
	})
}

func realServerAddCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "add", Aliases: []string{"put"}, Usage: "add a real server, or replace it", ArgsUsage: "NAME",
		Description: console.Describe(`
Adds a real server. It gets tunnels when it has been seen alive. One of this name is replaced as a
whole, except that a drained one stays drained; no tunnel moves by it.`,
			"director realserver add rs1 --address 198.51.100.11 --service ipsec --host node-a --zone z1",
			"director realserver add rs2 --address 198.51.100.12 --service wireguard --check udp/51820 --capacity 5000"),
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "address", Usage: "`ADDR` on the real servers' network; one of each family at most"},
			&cli.StringSliceFlag{Name: "service", Usage: "service `NAME` that it terminates; may be repeated"},
			&cli.StringFlag{Name: "host", Usage: "machine `NAME` that it runs on; default: its own name"},
			&cli.StringFlag{Name: "zone", Usage: "`NAME` of the host's zone: a backup is in another one where there is one"},
			&cli.UintFlag{Name: "weight", Value: api.DefaultWeight, Usage: "relative `N`; 0 takes no new tunnels"},
			&cli.UintFlag{Name: "capacity", Usage: "at most `N` tunnels; 0: no limit"},
			&cli.StringFlag{Name: "check", Usage: "`udp/PORT` or tcp/PORT of the terminator; default: ARP and ND alone"},
			&cli.StringSliceFlag{Name: "vlan", Usage: "`TENANT=TAG` on the subnet side; may be repeated"},
		},
		Action: asks(env, console.Count{Min: 1, Max: 1}, addRealServer),
	}
}

func addRealServer(ctx context.Context, t *talk) error {
	name := t.Args().First()
	weight := uint32(min(t.Uint("weight"), 1<<32-1))
	r := api.RealServer{Name: name, Host: t.String("host"), Zone: t.String("zone"), Addresses: t.list("address"), Services: t.list("service"),
		Weight: &weight, Capacity: uint32(min(t.Uint("capacity"), 1<<32-1)), Check: t.String("check")}
	for _, v := range t.list("vlan") {
		tenant, tag, _ := strings.Cut(v, "=")
		var n uint16
		if _, err := fmt.Sscan(tag, &n); err != nil || tenant == "" {
			return console.Usage("--vlan %s: is not TENANT=TAG, like customer-a=101", v)
		}
		if r.VLANs == nil {
			r.VLANs = map[string]uint16{}
		}
		r.VLANs[tenant] = n
	}
	_, err := t.client.RealServer(ctx, name)
	verb := "added"
	if err == nil {
		verb = "replaced"
	}
	a, err := t.client.PutRealServer(ctx, r)
	if err != nil {
		return err
	}
	return t.changed("real server "+name, a, verb)
}

func realServerWeightCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "weight", Usage: "change a real server's weight", ArgsUsage: "NAME WEIGHT",
		Description: console.Describe(`
Changes the share of new tunnels that a real server gets, relative to the others'. 0 takes none.
Nothing moves by it; rebalance evens out the load by the new weights.`,
			"director realserver weight rs1 200"),
		Action: asks(env, console.Count{Min: 2, Max: 2}, func(ctx context.Context, t *talk) error {
			name := t.Args().First()
			var weight uint32
			if n, err := fmt.Sscan(t.Args().Get(1), &weight); n != 1 || err != nil || fmt.Sprint(weight) != t.Args().Get(1) {
				return console.Usage("weight %q is not a whole number from 0 to 65535", t.Args().Get(1))
			}
			a, err := t.client.SetWeight(ctx, name, weight)
			if err != nil {
				return err
			}
			return t.changed("real server "+name, a, fmt.Sprintf("has weight %s now", console.Number(weight)))
		}),
	}
}

func realServerRmCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "rm", Aliases: []string{"delete"}, Usage: "remove real servers", ArgsUsage: "NAME...",
		Description: console.Describe(`
Removes real servers that no tunnel is placed on: drain it and rebalance first, repin what is up.
With --force one that has tunnels is dead at once, and they are placed anew, up or not.`,
			"director realserver rm rs2", "director realserver rm rs2 --force"),
		Flags: []cli.Flag{&cli.BoolFlag{Name: "force", Usage: "also one that has tunnels: they are placed anew at once, up or not"}},
		Action: streams(env, console.Count{Min: 1, Max: -1}, func(ctx context.Context, t *talk) error {
			return t.each(ctx, t.Args().Slice(), func(ctx context.Context, name string) error {
				a, err := t.client.DeleteRealServer(ctx, name, t.Bool("force"))
				if err != nil {
					return err
				}
				return t.changed("real server "+name, a, "removed")
			})
		}),
	}
}
