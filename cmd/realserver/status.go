package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"tunneldirector/cmd/console"
	"tunneldirector/realserver"
)

// answerLimit is how long the daemon may take to answer: an effect of a fault may take 10 s to be undone.
const answerLimit = 15 * time.Second

// ask gets an answer of the daemon.
func ask(ctx context.Context, socket, path string, to any) error {
	return talk(ctx, http.MethodGet, socket, path, to)
}

// talk asks the daemon for something, or to do something.
func talk(ctx context.Context, method, socket, path string, to any) error {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	r, err := http.NewRequestWithContext(ctx, method, "http://agent"+path, nil)
	if err != nil {
		return err
	}
	a, err := client.Do(r)
	if err != nil {
		return console.Coded(console.ExitUnreachable, notReached(err, socket))
	}
	defer a.Body.Close()
	if a.StatusCode != http.StatusOK {
		return console.Coded(console.ExitUnreachable, fmt.Errorf("ask the agent on %s: it answers %s; is it of another version?", socket, a.Status))
	}
	if err := json.NewDecoder(a.Body).Decode(to); err != nil {
		return console.Coded(console.ExitUnreachable, fmt.Errorf("ask the agent on %s: %w", socket, err))
	}
	return nil
}

// notReached says why a daemon does not answer and what to do about it.
func notReached(err error, socket string) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w\nNo agent listens on the socket %s. Start one:  realserver run\nIf it listens elsewhere, say --socket PATH", err, socket)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w\nThe socket %s is not open to this user: run as root", err, socket)
	}
	return err
}

func statusCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "status", Usage: "show the running agent at a glance",
		Description: console.Describe(`
Shows each real server with its terminator's health, load and tunnels, what became of the directors'
orders since the agent started, the streams to the directors, and what each director makes of the
real servers: alive or dead, drained, or why it gets no new tunnels. Why is what the state came of.

With --check the exit code is 6 unless all terminators work, none is full or held for dead, the host is
as it has to be and all directors are reached: for monitoring.`,
			"realserver status", "realserver status --check --json"),
		Flags: []cli.Flag{socketFlag(), &cli.BoolFlag{Name: "check", Usage: "exit with 6 unless all is well"}},
		Action: func(c *cli.Context) error {
			if err := takes(c, 0); err != nil {
				return err
			}
			var s realserver.Status
			if err := ask(c.Context, c.String(flagSocket), "/status", &s); err != nil {
				return err
			}
			if err := env.Show(s, func(p *console.Page) { statusPage(p, env.Now(), &s) }); err != nil {
				return err
			}
			if t := troubles(&s); len(t) > 0 && c.Bool("check") {
				return console.Coded(console.ExitNotWell, errors.New("not all is well: "+strings.Join(t, "; ")))
			}
			return nil
		},
	}
}

// troubles are what is not well, each once.
func troubles(s *realserver.Status) (out []string) {
	if s.Unready != "" {
		out = append(out, "the host is not as it has to be: "+s.Unready)
	}
	for _, f := range s.Faults {
		out = append(out, faultWords(f)+"; end it: realserver undo-faults")
	}
	for _, r := range s.RealServers {
		if r.Health != "working" {
			out = append(out, fmt.Sprintf("%s is %s: %s", r.Name, r.Health, r.Cause))
		}
		if r.Full {
			out = append(out, fmt.Sprintf("%s is full: %s", r.Name, fullest(&r)))
		}
		if r.Unreported > 0 {
			out = append(out, fmt.Sprintf("%s cannot be reported of %s", console.Some(r.Unreported, "tunnel"), r.Name))
		}
	}
	for _, d := range s.Directors {
		if !d.Connected {
			out = append(out, fmt.Sprintf("no stream to director %s: %s", d.Address, d.Why))
		}
		for _, name := range sortedKeys(d.Refused) {
			out = append(out, fmt.Sprintf("director %s does not let this agent speak for %s: %s", d.Name, name, d.Refused[name]))
		}
		for _, v := range d.Verdicts {
			if v.State == "dead" {
				out = append(out, fmt.Sprintf("director %s holds %s for dead: %s", d.Name, v.RealServer, v.Why))
			}
		}
		for _, w := range d.Warnings {
			out = append(out, fmt.Sprintf("director %s: %s", d.Name, w))
		}
	}
	return out
}

func sortedKeys(m map[string]string) (out []string) {
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

func statusPage(p *console.Page, now time.Time, s *realserver.Status) {
	p.Line("agent of host %s, version %s, started %s", s.Host, s.Version, console.Ago(now, s.Started))
	p.Line("")
	var rows [][]string
	for _, r := range s.RealServers {
		load := fmt.Sprintf("%d %%", r.Load/10)
		if r.Full {
			load += " FULL"
		}
		health := r.Health
		if r.Closed {
			health += ", closed"
		}
		rows = append(rows, []string{r.Name, r.Terminator, r.Method, addresses(r.VIPs), health, console.Ago(now, r.Since), console.Number(r.Tunnels), load, carried(r.Adopt), carried(r.Release)})
	}
	p.Table([]console.Column{{Name: "real server"}, {Name: "terminator"}, {Name: "method"}, {Name: "vips"}, {Name: "health"}, {Name: "since"}, {Name: "tunnels", Right: true},
		{Name: "load", Right: true}, {Name: "adopted"}, {Name: "released"}}, rows)
	for _, r := range s.RealServers {
		for _, part := range r.Parts {
			if part.Permille >= 500 || r.Full {
				p.Line("  %s  %s: %d %% of its limit: %s", r.Name, part.Name, part.Permille/10, part.Says)
			}
		}
		for _, f := range r.Failures {
			p.Line("  %s  tunnel %s %s: %s", r.Name, f.Tunnel, f.Outcome, f.Why)
		}
	}
	p.Line("")
	rows = nil
	for _, d := range s.Directors {
		state := "connected"
		if !d.Connected {
			state = "NOT connected"
		}
		rows = append(rows, []string{d.Address, d.Name, state, console.Ago(now, d.Since)})
	}
	p.Table([]console.Column{{Name: "director"}, {Name: "name"}, {Name: "stream"}, {Name: "since"}}, rows)
	if rows = verdicts(now, s.Directors); len(rows) > 0 {
		p.Line("")
		p.Table([]console.Column{{Name: "director"}, {Name: "real server"}, {Name: "verdict"}, {Name: "since"}, {Name: "why"}}, rows)
	}
	p.Line("")
	list := troubles(s)
	for _, t := range list {
		p.Line("TROUBLE  %s", t)
	}
	if len(list) == 0 {
		p.Line("all is well")
	}
}

// verdicts are what directors make of the real servers.
func verdicts(now time.Time, directors []realserver.StreamStatus) (rows [][]string) {
	for _, d := range directors {
		for _, v := range d.Verdicts {
			state := v.State
			if v.State == "dead" {
				state = "DEAD"
			}
			if v.Drained != nil {
				state += ", drained " + console.Ago(now, *v.Drained)
			}
			why := v.Why
			if v.Shut != "" {
				state += ", no new tunnels"
				why = v.Shut
				if v.Why != "" {
					why = v.Why + "; " + v.Shut
				}
			}
			rows = append(rows, []string{d.Name, v.RealServer, state, console.Ago(now, v.Since), why})
		}
	}
	return rows
}

func addresses(list []netip.Addr) string {
	var out []string
	for _, a := range list {
		out = append(out, a.String())
	}
	return strings.Join(out, " ")
}

// carried says what became of orders; what there is none of is left out.
func carried(c realserver.Carried) string {
	var out []string
	for _, x := range []struct {
		n    int
		word string
	}{{c.Done, "done"}, {c.Trying, "trying"}, {c.Queued, "queued"}, {c.Waiting, "waiting for the site"}, {c.Failed, "failed"}} {
		if x.n > 0 {
			out = append(out, console.Number(x.n)+" "+x.word)
		}
	}
	return strings.Join(out, ", ")
}

// fullest is the highest part of a load, in words.
func fullest(r *realserver.RealServerStatus) string {
	if len(r.Parts) == 0 {
		return fmt.Sprintf("%d %% of its limit", r.Load/10)
	}
	x := slices.MaxFunc(r.Parts, func(a, b realserver.LoadPart) int { return int(a.Permille) - int(b.Permille) })
	return x.Name + ": " + x.Says
}

func tunnelsCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "tunnels", Usage: "list what is established at the terminators here", ArgsUsage: "[REALSERVER]",
		Description: console.Describe(`
Lists established tunnels as the agent saw them last, of one real server or of all. Endpoint is the
site's outer address, with its port where it has one.`,
			"realserver tunnels", "realserver tunnels --json rs1"),
		Flags: []cli.Flag{socketFlag()},
		Action: func(c *cli.Context) error {
			if err := takes(c, 1); err != nil {
				return err
			}
			list := []realserver.TunnelStatus{}
			if err := ask(c.Context, c.String(flagSocket), "/tunnels?real_server="+url.QueryEscape(c.Args().First()), &list); err != nil {
				return err
			}
			return env.Show(map[string][]realserver.TunnelStatus{"tunnels": list}, func(p *console.Page) { tunnelsPage(p, env.Now(), list) })
		},
	}
}

func tunnelsPage(p *console.Page, now time.Time, list []realserver.TunnelStatus) {
	if len(list) == 0 {
		p.Line("no tunnels are established")
		return
	}
	var rows [][]string
	for _, t := range list {
		var subnets []string
		for i, s := range t.Subnets {
			if i == 3 {
				subnets = append(subnets, fmt.Sprintf("and %d more", len(t.Subnets)-i))
				break
			}
			subnets = append(subnets, s.String())
		}
		last := ""
		if t.Last != nil {
			last = console.Ago(now, *t.Last)
		}
		rows = append(rows, []string{t.RealServer, t.Peer, t.Endpoint, t.Local, strings.Join(subnets, " "), console.Ago(now, t.Since), last, console.Octets(t.Rx), console.Octets(t.Tx)})
	}
	p.Table([]console.Column{{Name: "real server"}, {Name: "peer"}, {Name: "endpoint"}, {Name: "local"}, {Name: "subnets"}, {Name: "established"}, {Name: "last packet"},
		{Name: "in", Right: true}, {Name: "out", Right: true}}, rows)
	p.Line("%s", console.Some(len(list), "tunnel"))
}
