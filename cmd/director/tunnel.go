package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"tunneldirector/affinity"
	"tunneldirector/cmd/console"
	"tunneldirector/director/api"
)

func tunnelCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "tunnel", Usage: "list, show, add, remove, import and export tunnels",
		Description: console.Describe(`
A tunnel is a site: the addresses that it comes from, the subnets behind it, and the service that it
dials. It is placed as soon as it is pushed, before its first packet.`,
			"director tunnel list --service ipsec --placed no", "director tunnel get site-0042"),
		Subcommands: []*cli.Command{
			tunnelListCommand(env), tunnelGetCommand(env), tunnelAddCommand(env), tunnelRmCommand(env), tunnelImportCommand(env), tunnelExportCommand(env),
		},
	}
}

func filterFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "service", Usage: "of the service `NAME`"},
		&cli.StringFlag{Name: "realserver", Aliases: []string{"rs"}, Usage: "whose primary is the real server `NAME`"},
		&cli.StringFlag{Name: "endpoint", Usage: "that claim the address `ADDR`, at any port"},
		&cli.StringFlag{Name: "inside", Usage: "one of whose subnets holds the address `ADDR`"},
		&cli.StringFlag{Name: "state", Usage: "of which the NMS says `STATE`: down, coming, up or unsaid"},
		&cli.StringFlag{Name: "owner", Usage: "pushed by the token `NAME`"},
		&cli.StringFlag{Name: "group", Usage: "of the group `NAME`"},
		&cli.StringFlag{Name: "tenant", Usage: "of the tenant `NAME`; default is one too"},
		&cli.StringFlag{Name: "placed", Usage: "`yes`, no or contested"},
		&cli.BoolFlag{Name: "learned", Usage: "that nobody announced and agents saw"},
		&cli.StringSliceFlag{Name: "label", Usage: "with the label `KEY=VALUE`, or KEY; may be repeated"},
	}
}

func (t *talk) filter(page int) api.TunnelFilter {
	f := api.TunnelFilter{
		Service: t.String("service"), RealServer: t.String("realserver"), Endpoint: t.String("endpoint"), Inside: t.String("inside"), State: t.String("state"),
		Owner: t.String("owner"), Group: t.String("group"), Tenant: t.String("tenant"), Placed: t.String("placed"), Labels: t.StringSlice("label"), Limit: page,
	}
	if t.Bool("learned") {
		f.Learned = "yes"
	}
	return f
}

func tunnelListCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "list", Aliases: []string{"ls"}, Usage: "list tunnels in order of their ids",
		Description: console.Describe(`
Lists tunnels that all given filters let through. With --json one tunnel a line.

Up tells by what: agent (an agent sees it established), packets, or nms (its word). Remarks: learned
(nobody announced it, an agent saw it), roamed (it is seen at an address it was not announced with),
at RS (an agent sees it established elsewhere than it is placed), split, contested.`,
			"director tunnel list --realserver rs2 --limit 0",
			"director tunnel list --inside 100.64.40.33",
			"director tunnel list --label region=north --json"),
		Flags: append(filterFlags(), &cli.IntFlag{Name: "limit", Aliases: []string{"n"}, Value: 100, Usage: "at most `N`; 0: all"}),
		Action: streams(env, console.Count{}, func(ctx context.Context, t *talk) error {
			l := tunnelLister{t: t, limit: t.Int("limit")}
			if l.limit < 0 {
				return console.Usage("--limit %d: is negative; 0 lists all", l.limit)
			}
			return l.run(ctx)
		}),
	}
}

// A tunnelLister prints tunnels a page at a time.
type tunnelLister struct {
	t     *talk
	limit int
	rows  [][]string
	n     int
}

const (
	listPage   = 1000 // rows of one table, which a large list has several of
	exportPage = 2000
)

func (l *tunnelLister) run(ctx context.Context) error {
	size := listPage
	if l.limit > 0 {
		size = min(size, l.limit)
	}
	for cursor := ""; ; {
		page, err := l.t.tunnelPage(ctx, l.t.filter(size), cursor)
		if err != nil {
			return err
		}
		for i := range page.Tunnels {
			if l.limit > 0 && l.n == l.limit {
				break
			}
			l.n++
			if err := l.add(&page.Tunnels[i]); err != nil {
				return err
			}
		}
		if err := l.flush(); err != nil {
			return err
		}
		if cursor = page.Next; cursor == "" {
			break
		}
		if l.limit > 0 && l.n == l.limit {
			l.t.note("... there are more; --limit 0 lists all, filters fewer (the table has %s)", console.Some(page.Total, "tunnel"))
			return nil
		}
	}
	if l.n == 0 {
		l.t.note("no tunnels")
	}
	return nil
}

// tunnelPage reads one page within --timeout.
func (t *talk) tunnelPage(ctx context.Context, f api.TunnelFilter, cursor string) (api.TunnelList, error) {
	ctx, cancel := t.limited(ctx)
	defer cancel()
	return t.client.TunnelPage(ctx, f, cursor)
}

func (l *tunnelLister) add(s *api.TunnelState) error {
	if l.t.JSON {
		return l.t.JSONLine(s)
	}
	l.rows = append(l.rows, []string{s.ID, s.Service, someNames(s.Endpoints, 2), someNames(s.Subnets, 2), bits(s.Bandwidth), s.Tenant,
		placeWord(s.Placement), backupWord(s.Placement), upWord(s), remarks(s)})
	return nil
}

func (l *tunnelLister) flush() error {
	if len(l.rows) == 0 {
		return nil
	}
	p := &console.Page{W: l.t.Stdout}
	p.Table([]console.Column{{Name: "id"}, {Name: "service"}, {Name: "endpoints"}, {Name: "subnets"}, {Name: "bandwidth", Right: true}, {Name: "tenant"},
		{Name: "real server"}, {Name: "backup"}, {Name: "up"}, {Name: "remarks"}}, l.rows)
	l.rows = l.rows[:0]
	return p.Err
}

// someNames joins the first names and says how many more there are.
func someNames(names []string, n int) string {
	if len(names) <= n {
		return strings.Join(names, " ")
	}
	return strings.Join(names[:n], " ") + fmt.Sprintf(" +%d", len(names)-n)
}

func placeWord(p *api.Placement) string {
	if p == nil || p.RealServer == "" {
		return "unplaced"
	}
	return p.RealServer
}

func backupWord(p *api.Placement) string {
	if p == nil {
		return ""
	}
	return p.Backup
}

func upWord(s *api.TunnelState) string {
	switch {
	case s.Up:
		return "up (" + s.Evidence + ")"
	case s.State == "coming":
		return "coming"
	case s.Evidence == api.ByNobody:
		return "unknown"
	}
	return "down"
}

func remarks(s *api.TunnelState) string {
	var out []string
	if s.Owner == affinity.LearnedOwner {
		out = append(out, "learned")
	}
	if len(s.Roamed) > 0 {
		out = append(out, "roamed")
	}
	if elsewhere(s) {
		out = append(out, "at "+s.At)
	}
	if s.Split {
		out = append(out, "split")
	}
	if len(s.Contested) > 0 {
		out = append(out, "contested")
	}
	return strings.Join(out, " ")
}

// elsewhere tells whether an agent sees a tunnel established at another real server than it is placed at.
func elsewhere(s *api.TunnelState) bool { return s.At != "" && s.At != placeWord(s.Placement) }

func tunnelGetCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "get", Aliases: []string{"show"}, Usage: "show one tunnel, where it is and why", ArgsUsage: "ID",
		Description: console.Describe(`Shows a tunnel, its placement, and by what it is known to be up.`,
			"director tunnel get site-0042", "director tunnel get site-0042 --json"),
		Action: asks(env, console.Count{Min: 1, Max: 1}, func(ctx context.Context, t *talk) error {
			s, err := t.client.Tunnel(ctx, t.Args().First())
			if err != nil {
				return err
			}
			return t.Show(s, func(p *console.Page) { t.tunnelPageOf(p, &s) })
		}),
	}
}

func (t *talk) tunnelPageOf(p *console.Page, s *api.TunnelState) {
	now := t.Now()
	facts := [][2]string{
		{"tunnel", s.ID}, {"service", s.Service}, {"tenant", s.Tenant}, {"group", s.Group},
		{"endpoints", strings.Join(s.Endpoints, " ")}, {"subnets", strings.Join(s.Subnets, " ")}, {"bandwidth", bits(s.Bandwidth)},
		{"labels", strings.Join(sortedLabels(s.Labels), " ")}, {"separate from", strings.Join(s.SeparateFrom, " ")},
		{"generation", unlessZero(s.Generation)}, {"owner", s.Owner}, {"created", moment(now, s.Created)}, {"updated", moment(now, s.Updated)},
		{"nms says", s.State}, {"up", upWord(s)}, {"roamed to", strings.Join(s.Roamed, " ")},
	}
	if s.Owner == affinity.LearnedOwner {
		facts = append(facts, [2]string{"learned", "nobody announced it; it goes when no agent has seen it for 30 minutes, or gives way when it is announced"})
	}
	if s.At != "" {
		facts = append(facts, [2]string{"established at", s.At})
	}
	if s.LastSeen != nil {
		facts = append(facts, [2]string{"last packet", moment(now, *s.LastSeen)})
	}
	if pl := s.Placement; pl != nil {
		facts = append(facts, [2]string{"real server", placeWord(pl)}, [2]string{"backup", orWord(pl.Backup, "none")}, [2]string{"unplaced", pl.Unplaced})
		if pl.Since != nil {
			facts = append(facts, [2]string{"since", moment(now, *pl.Since) + ", " + pl.Why})
		}
	}
	if elsewhere(s) {
		facts = append(facts, [2]string{"wrong place", "its packets go to " + placeWord(s.Placement) + ", and " + s.At + " has it established; director seen lists all of these"})
	}
	facts = append(facts, [2]string{"contested", strings.Join(s.Contested, " | ")})
	if s.Split {
		facts = append(facts, [2]string{"split", "keeps another real server than its group until it is down or repinned"})
	}
	for _, w := range s.Warnings {
		facts = append(facts, [2]string{"note", w})
	}
	p.Facts(facts)
}

func orWord(s, word string) string {
	if s == "" {
		return word
	}
	return s
}
