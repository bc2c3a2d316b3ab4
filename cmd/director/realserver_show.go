package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"tunneldirector/cmd/console"
	"tunneldirector/director/api"
)

func realServerShowCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "show", Aliases: []string{"get"}, Usage: "show one real server, its agent, load and drain", ArgsUsage: "NAME",
		Description: console.Describe(`
Shows all that is known of a real server: its life, what it carries, how its drain stands, and what
its agent says: the terminator's health, its load by part, how the orders of the last 15 minutes
stand, and why it gets no new tunnels if it does not.`,
			"director realserver show rs1", "director realserver show rs1 --json"),
		Action: asks(env, console.Count{Min: 1, Max: 1}, func(ctx context.Context, t *talk) error {
			r, err := t.client.RealServer(ctx, t.Args().First())
			if err != nil {
				return err
			}
			return t.Show(r, func(p *console.Page) { t.realServerPage(p, &r) })
		}),
	}
}

func (t *talk) realServerPage(p *console.Page, r *api.RealServerState) {
	st := r.Status
	if st == nil {
		st = &api.RealServerStatus{}
	}
	facts := [][2]string{
		{"real server", r.Name}, {"host", hostWord(r.Host, r.Zone)}, {"addresses", strings.Join(r.Addresses, " ")}, {"services", strings.Join(r.Services, " ")},
		{"check", orWord(r.Check, "ARP and ND alone")}, {"state", r.State + after(": ", r.Cause)},
	}
	if r.Since != nil {
		facts = append(facts, [2]string{"since", moment(t.Now(), *r.Since)})
	}
	weight := ""
	if r.Weight != nil {
		weight = console.Number(*r.Weight)
	}
	if r.Incarnation > 0 {
		facts = append(facts, [2]string{"incarnation", fmt.Sprintf("%d, index %d in the data plane", r.Incarnation, st.Index)})
	}
	facts = append(facts, [][2]string{
		{"weight", weight}, {"admin", r.Admin},
		{"tunnels", tunnelsOf(st.Tunnels, r.Capacity)}, {"backup for", console.Number(st.BackupFor)}, {"expected", bits(st.BandwidthBPS)},
		{"forwarded", trafficWords(st.Traffic)}, {"probe rtt", rtt(st.RTTMicros)},
	}...)
	if st.Drain != nil {
		facts = append(facts, [2]string{"drain", drainWords(t.Now(), st.Drain)})
	}
	facts = append(facts, [2]string{"agent", agentSentence(t.Now(), st.Agent)})
	if a := st.Agent; a != nil {
		facts = append(facts, [][2]string{{"terminator", a.Terminator + ", on host " + a.Host}, {"established", console.Some(a.Established, "tunnel")},
			{"no new tunnels", a.Closed}, {"orders", ordersWords(a.Orders)}, {"load", loadWord(a)}}...)
	}
	p.Facts(facts)
	if st.Agent != nil && len(st.Agent.Load) > 0 {
		var rows [][]string
		for _, l := range st.Agent.Load {
			rows = append(rows, []string{l.Name, percent(l.Percent), l.Says})
		}
		p.Line("")
		p.Table([]console.Column{{Name: "load by part"}, {Name: "of its limit", Right: true}, {Name: "measured"}}, rows)
	}
}

func percent(p float64) string { return fmt.Sprintf("%.0f %%", p) }

// agentWord is an agent in a word: what it says of its terminator, if it speaks.
func agentWord(a *api.AgentStatus) string {
	switch {
	case a == nil:
		return ""
	case !a.Connected:
		return "silent"
	}
	return a.Health
}

func loadWord(a *api.AgentStatus) string {
	if a == nil || !a.Connected {
		return ""
	}
	return percent(a.LoadPercent)
}

func agentSentence(now time.Time, a *api.AgentStatus) string {
	switch {
	case a == nil:
		return "none has spoken to this director"
	case !a.Connected:
		return "silent since " + moment(now, a.Since) + "; what follows is what it said last"
	}
	return "connected since " + moment(now, a.Since) + "; the terminator is " + a.Health + after(": ", a.Cause)
}

// ordersWords sums up orders; nothing for none.
func ordersWords(o api.OrderCount) string {
	if o == (api.OrderCount{}) {
		return ""
	}
	return fmt.Sprintf("%s open, %s done, %s waiting for the site to dial, %s failed", console.Number(o.Open), console.Number(o.Done), console.Number(o.Waiting), console.Number(o.Failed))
}
