package main

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"tunneldirector/cmd/console"
	"tunneldirector/director/api"
)

func clusterMembersCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "members", Aliases: []string{"list", "ls"}, Usage: "list the directors",
		Description: console.Describe(`
Lists the directors as the one that is asked sees them, by rank: the live and ready one of the lowest
rank assigns. LAG is what a director has not acknowledged yet of the records here.`,
			"director cluster members"),
		Action: asks(env, console.Count{}, func(ctx context.Context, t *talk) error {
			st, err := t.client.Cluster(ctx)
			if err != nil {
				return err
			}
			return t.Show(map[string]any{"members": st.Members}, func(p *console.Page) { membersTable(p, t.Now(), &st) })
		}),
	}
}

func clusterStatusCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "status", Aliases: []string{"show"}, Usage: "show how the directors stand, and who owns which address",
		Description: console.Describe(`
Shows who assigns and why, each director with its paths, how far it is behind, whether its table is
equal to the one here, and for each VIP and gateway who owns it and why. With --check the exit code is
6 if something is wrong: for monitoring.`,
			"director cluster status", "director cluster status --check --json"),
		Flags: []cli.Flag{&cli.BoolFlag{Name: "check", Usage: "exit with 6 unless all is well"}},
		Action: asks(env, console.Count{}, func(ctx context.Context, t *talk) error {
			st, err := t.client.Cluster(ctx)
			if err != nil {
				return err
			}
			if err := t.Show(st, func(p *console.Page) { clusterPage(p, t.Now(), &st) }); err != nil {
				return err
			}
			if t.Bool("check") && len(st.Problems) > 0 {
				return console.Coded(console.ExitNotWell, fmt.Errorf("not all is well: %s", strings.Join(st.Problems, "; ")))
			}
			return nil
		}),
	}
}

func membersTable(p *console.Page, now time.Time, st *api.ClusterStatus) {
	var rows [][]string
	for i := range st.Members {
		m := &st.Members[i]
		name := m.Name
		if m.Name == st.Assigner {
			name += " (assigns)"
		}
		ready := "no"
		if m.Ready {
			ready = "yes"
		}
		if m.State == api.MemberDead || m.State == api.MemberLeft {
			ready = ""
		}
		rows = append(rows, []string{name, fmt.Sprint(m.Rank), m.Role, memberState(m), console.Ago(now, m.Since), ready, heardWords(m), lagWords(m.Lag, m.Self), tableWords(m), offsetWords(m)})
	}
	p.Table([]console.Column{{Name: "director"}, {Name: "rank", Right: true}, {Name: "role"}, {Name: "state"}, {Name: "since"}, {Name: "ready"}, {Name: "heard"},
		{Name: "lag"}, {Name: "table"}, {Name: "clock"}}, rows)
}

// memberState is a state and what is wrong.
func memberState(m *api.MemberStatus) string {
	words := []string{m.State}
	if m.Self {
		words = append(words, "this one")
	}
	if m.Sick {
		words = append(words, "sick")
	}
	if m.Hung {
		words = append(words, "hung")
	}
	return strings.Join(words, ", ")
}

// heardWords tell by how many of a director's paths it is heard.
func heardWords(m *api.MemberStatus) string {
	if m.Self {
		return ""
	}
	heard, best := 0, math.Inf(1)
	for _, x := range m.Paths {
		if x.HeardMS != nil {
			best = min(best, *x.HeardMS)
			if *x.HeardMS < pathSilent {
				heard++
			}
		}
	}
	if math.IsInf(best, 1) {
		return "never"
	}
	return fmt.Sprintf("%s ago, %d of %s", milliseconds(best), heard, console.Some(len(m.Paths), "path"))
}

// pathSilent is after how many milliseconds a path is called silent.
const pathSilent = 2000

func milliseconds(ms float64) string {
	return time.Duration(ms * float64(time.Millisecond)).Round(time.Millisecond).String()
}

func lagWords(l api.Lag, self bool) string {
	switch {
	case self:
		return ""
	case l.Records == 0:
		return "none"
	}
	return fmt.Sprintf("%s, %s", console.Some(l.Records, "record"), seconds(l.Seconds))
}

func seconds(s float64) string {
	return time.Duration(s * float64(time.Second)).Round(10 * time.Millisecond).String()
}

func tableWords(m *api.MemberStatus) string {
	switch {
	case m.Self:
		return ""
	case !m.Digest.Known:
		return "not compared"
	case m.Digest.Equal:
		return "equal"
	}
	return "differs"
}

func offsetWords(m *api.MemberStatus) string {
	if m.Self {
		return ""
	}
	return fmt.Sprintf("%+.3fs", m.ClockOffset)
}

func clusterPage(p *console.Page, now time.Time, st *api.ClusterStatus) {
	p.Facts([][2]string{
		{"cluster", st.Name}, {"asked", "director " + st.Self},
		{"assigns", orWord(st.Assigner, "nobody") + after(": ", st.AssignerWhy)},
	})
	for _, w := range st.Problems {
		p.Line("problem: %s", w)
	}
	p.Line("")
	membersTable(p, now, st)
	for i := range st.Members {
		p.Line("")
		memberFacts(p, now, &st.Members[i])
	}
	if len(st.Addresses) == 0 {
		return
	}
	p.Line("")
	var rows [][]string
	for _, a := range st.Addresses {
		rows = append(rows, []string{a.Address, a.Kind, a.Of, a.Owner, strings.Join(a.Holders, " "), strings.Join(a.Prefer, " "), a.Why})
	}
	p.Table([]console.Column{{Name: "address"}, {Name: "kind"}, {Name: "of"}, {Name: "owner"}, {Name: "held by"}, {Name: "prefers"}, {Name: "why"}}, rows)
}

func memberFacts(p *console.Page, now time.Time, m *api.MemberStatus) {
	facts := [][2]string{
		{"director", m.Name + after(", version ", m.Version)}, {"streams at", m.Stream}, {"gossip at", m.Gossip}, {"store", m.Store}, {"doing", m.Doing},
	}
	if m.Ready {
		facts = append(facts, [2]string{"ready for", console.Span(time.Duration(m.ReadyFor * float64(time.Second)))})
	}
	if !m.Self {
		facts = append(facts, [][2]string{{"its lag", lagWords(m.Lag, false)}, {"our lag", lagWords(m.Behind, false)}}...)
		word := tableWords(m)
		if m.Digest.Since != nil {
			word += " since " + moment(now, *m.Digest.Since)
		}
		facts = append(facts, [2]string{"table", word})
	}
	for _, x := range m.Paths {
		heard := "never heard"
		if x.HeardMS != nil {
			heard = "heard " + milliseconds(*x.HeardMS) + " ago"
		}
		if x.Lost > 0 {
			heard += fmt.Sprintf(", %.0f %% lost", 100*x.Lost)
		}
		facts = append(facts, [2]string{"path", x.Address + " " + heard})
	}
	p.Facts(slices.DeleteFunc(facts, func(f [2]string) bool { return f[1] == "" }))
}
