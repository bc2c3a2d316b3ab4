package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"tunneldirector/cmd/console"
	"tunneldirector/director/api"
)

func statusCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "status", Usage: "show the director at a glance",
		Description: console.Describe(`
Shows whether the director is ready, what needs a person, its data plane, real servers and services,
and N+1: whether the death of any one host can be borne by the others.

With --check the exit code is 6 unless it is ready, writable, in step with the kernel and without
alarms: for monitoring.`,
			"director status", "director status --check --json"),
		Flags: []cli.Flag{&cli.BoolFlag{Name: "check", Usage: "exit with 6 unless all is well"}},
		Action: asks(env, console.Count{}, func(ctx context.Context, t *talk) error {
			s, err := t.client.Status(ctx)
			if err != nil {
				return err
			}
			if err := t.Show(s, func(p *console.Page) { t.statusPage(p, &s) }); err != nil {
				return err
			}
			if t.Bool("check") && !well(&s) {
				return console.Coded(console.ExitNotWell, errors.New("not all is well: "+strings.Join(troubles(&s), "; ")))
			}
			return nil
		}),
	}
}

func well(s *api.Status) bool { return len(troubles(s)) == 0 }

// troubles are what is not well, each once.
func troubles(s *api.Status) []string {
	var out []string
	if !s.Ready {
		out = append(out, "not ready"+after(": ", strings.Join(s.NotReady, ", ")))
	}
	if !s.Writable {
		out = append(out, "not writable"+after(": ", s.NotWritable))
	}
	if !s.Plane.InSync {
		out = append(out, "the kernel is not in step with the table"+after(": ", s.Plane.LastError))
	}
	if n := len(s.Alarms); n > 0 {
		out = append(out, console.Some(n, "alarm"))
	}
	return out
}

func after(sep, s string) string {
	if s == "" {
		return ""
	}
	return sep + s
}

func (t *talk) statusPage(p *console.Page, s *api.Status) {
	now := t.Now()
	n := s.Tunnels
	p.Facts([][2]string{
		{"director", fmt.Sprintf("%s, version %s, running %s", s.Name, orWord(s.Version, "unknown"), console.Span(now.Sub(s.Started)))},
		{"ready", yesNo(s.Ready, strings.Join(s.NotReady, "; "))},
		{"writable", yesNo(s.Writable, s.NotWritable)},
		{"frozen", frozenWords(s)},
		{"faults in place", faultsWords(s.Faults)},
		{"tunnels", fmt.Sprintf("%s: %s placed, %s unplaced, %s without backup, %s contested, %s split", console.Number(n.Total), console.Number(n.Placed), console.Number(n.Unplaced),
			console.Number(n.NoBackup), console.Number(n.Contested), console.Number(n.Split))},
		{"agents", agentsWords(s)},
		{"N+1", yesNo(s.NPlusOne.OK, strings.Join(s.NPlusOne.Missing, "; "))},
		{"data plane", planeWords(&s.Plane)},
		{"plane detail", strings.Join(s.Plane.Detail, "; ")},
		{"tables", usageWords(s.Plane.Tables)},
		{"subnet side", trafficWords(s.Plane.SubnetSide)},
		{"dropped", countersWords(s.Plane.Dropped)},
		{"passed", countersWords(s.Plane.Passed)},
		{"disk", fmt.Sprintf("%s used, %s free", console.Octets(s.DiskUsed), console.Octets(s.DiskFree))},
		{"revision", fmt.Sprintf("%s:%d", s.Store, s.Revision)},
		{"clock", s.ClockSays},
	})
	t.statusTables(p, s)
	p.Line("")
	if len(s.Alarms) == 0 {
		p.Line("no alarms")
	}
	for _, a := range s.Alarms {
		p.Line("ALARM  %s", a)
	}
}

func (t *talk) statusTables(p *console.Page, s *api.Status) {
	if len(s.Services) > 0 {
		var rows [][]string
		for _, v := range s.Services {
			rows = append(rows, []string{v.Name, console.Number(v.Tunnels), console.Number(v.Traffic.Packets), console.Octets(v.Traffic.Bytes), countersWords(v.Dropped)})
		}
		p.Line("")
		p.Table([]console.Column{{Name: "service"}, {Name: "tunnels", Right: true}, {Name: "packets", Right: true}, {Name: "bytes", Right: true}, {Name: "dropped packets"}}, rows)
	}
	if len(s.RealServers) > 0 {
		var rows [][]string
		for _, r := range s.RealServers {
			since := ""
			if at, err := time.Parse(time.RFC3339, r.Since); err == nil {
				since = console.Ago(t.Now(), at)
			}
			rows = append(rows, []string{r.Name, r.State, r.Admin, since, hostWord(r.Host, r.Zone), console.Number(r.Weight), tunnelsOf(r.Tunnels, r.Capacity),
				console.Number(r.BackupFor), bits(r.BandwidthBPS), console.Number(r.Traffic.Packets), console.Octets(r.Traffic.Bytes), rtt(r.RTTMicros)})
		}
		p.Line("")
		p.Table([]console.Column{{Name: "real server"}, {Name: "state"}, {Name: "admin"}, {Name: "since"}, {Name: "host"}, {Name: "weight", Right: true}, {Name: "tunnels", Right: true},
			{Name: "backup for", Right: true}, {Name: "expected", Right: true}, {Name: "packets", Right: true}, {Name: "bytes", Right: true}, {Name: "rtt", Right: true}}, rows)
	}
}

func yesNo(ok bool, why string) string {
	if ok {
		return "yes"
	}
	return "NO" + after(": ", why)
}

func frozenWords(s *api.Status) string {
	if !s.Frozen {
		return ""
	}
	return "YES" + after(", by ", s.FrozenBy) + ": nothing is moved automatically; end it with director unfreeze"
}

// agentsWords sums up the agents; nothing where none ever spoke.
func agentsWords(s *api.Status) string {
	known, connected, established := 0, 0, 0
	for _, r := range s.RealServers {
		if r.Agent != nil {
			known++
			if r.Agent.Connected {
				connected++
				established += r.Agent.Established
			}
		}
	}
	if known == 0 {
		return ""
	}
	return fmt.Sprintf("%s of %s connected, %s established there; director seen tells which are not where they are wanted",
		console.Number(connected), console.Number(known), console.Some(established, "tunnel"))
}

func planeWords(p *api.PlaneStatus) string {
	name := planeChoice{p.Kind, p.ChosenBy, p.Why}.String()
	if p.InSync {
		return name + ", in step with the table"
	}
	return name + ", NOT in step with the table" + after(": ", p.LastError)
}

func trafficWords(t api.Traffic) string {
	return fmt.Sprintf("%s, %s", console.Some(t.Packets, "packet"), console.Octets(t.Bytes))
}

// countersWords writes the counters that are not 0, the largest first.
func countersWords(m map[string]uint64) string {
	keys := slices.SortedFunc(maps.Keys(m), func(a, b string) int {
		if m[a] != m[b] && m[a] > m[b] {
			return -1
		} else if m[a] < m[b] {
			return 1
		}
		return strings.Compare(a, b)
	})
	var out []string
	for _, k := range keys {
		if m[k] > 0 {
			out = append(out, k+" "+console.Number(m[k]))
		}
	}
	return strings.Join(out, ", ")
}

func usageWords(m map[string]api.Usage) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		u := m[k]
		s := k + " " + console.Number(u.Entries)
		if u.Max > 0 {
			s += fmt.Sprintf("/%s (%d %%)", console.Number(u.Max), u.Entries*100/u.Max)
		}
		out = append(out, s)
	}
	return strings.Join(out, ", ")
}
