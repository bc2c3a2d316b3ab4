package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"tunneldirector/cmd/console"
	"tunneldirector/realserver/host"
)

// configured makes the action of a command that needs the host's file and takes no arguments.
func configured(do func(c *cli.Context, cfg Config) error) cli.ActionFunc {
	return configuredBy(Parse, do)
}

// configuredBy has the file read by parse.
func configuredBy(parse func([]byte) (Config, error), do func(c *cli.Context, cfg Config) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		if err := takes(c, 0); err != nil {
			return err
		}
		cfg, err := readBy(parse, c.String(flagConfig))
		if err != nil {
			return err
		}
		return do(c, cfg)
	}
}

// onHost makes the action of a command about the host.
func onHost(do func(c *cli.Context, cfg Config, h *host.Host) error) cli.ActionFunc {
	return configured(func(c *cli.Context, cfg Config) error {
		h, err := hostOf(cfg)
		if err != nil {
			return err
		}
		return do(c, cfg, h)
	})
}

func planCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "plan", Usage: "show what apply would change on this host, and why",
		Description: console.Describe(`
Compares the host with what its real servers' forwarding methods need, and shows each difference: from
what, to what, why. Changes nothing. With --check the exit code is 6 if there is something to change.`,
			"realserver plan", "realserver plan --check --json"),
		Flags: []cli.Flag{configFlag(), &cli.BoolFlag{Name: "check", Usage: "exit with 6 if there is something to change"}},
		Action: onHost(func(c *cli.Context, _ Config, h *host.Host) error {
			list, err := h.Plan(c.Context)
			if err := errors.Join(showChanges(env, list, "to make"), err); err != nil {
				return err
			}
			if n := toDo(list); n > 0 && c.Bool("check") {
				return console.Coded(console.ExitNotWell, fmt.Errorf("%s to make", console.Some(n, "change")))
			}
			return nil
		}),
	}
}

func applyCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "apply", Usage: "make this host right for its real servers",
		Description: console.Describe(`
Makes the changes that plan shows, and remembers what was there before, in state_dir. What is right
already is not touched, and not remembered as ours.`,
			"realserver apply", "realserver apply --config /etc/tunneldirector/realserver.yaml --json"),
		Flags: []cli.Flag{configFlag()},
		Action: onHost(func(c *cli.Context, cfg Config, h *host.Host) error {
			if err := os.MkdirAll(cfg.StateDir, 0o700); err != nil {
				return fmt.Errorf("make state_dir: %w", err)
			}
			list, err := h.Apply(c.Context)
			return errors.Join(showChanges(env, list, "made"), err)
		}),
	}
}

func revertCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "revert", Usage: "put back what apply found on this host",
		Description: console.Describe(`
Puts back what was there before apply (or before run with prepare_host: true) changed it, and the room of
sockets and devices that run raised. What somebody else changed since is left, and said. Tunnels that
depend on it break. A daemon that prepares the host, or gives room, has to be stopped first: it would do
it again.`,
			"realserver revert", "realserver revert --json"),
		Flags: []cli.Flag{configFlag()},
		Action: onHost(func(c *cli.Context, cfg Config, h *host.Host) error {
			if n, err := net.Dial("unix", cfg.Socket); err == nil {
				_ = n.Close()
				switch {
				case cfg.PrepareHost:
					return fmt.Errorf("an agent with prepare_host: true answers on %s and would prepare the host again; stop it first", cfg.Socket)
				case cfg.raises():
					return fmt.Errorf("an agent answers on %s and would raise the room of sockets and devices again; stop it first", cfg.Socket)
				}
			}
			if err := os.MkdirAll(cfg.StateDir, 0o700); err != nil {
				return fmt.Errorf("make state_dir: %w", err)
			}
			list, err := h.Revert(c.Context)
			err = errors.Join(showChanges(env, list, "made"), err)
			did, bad := lowerAll(c.Context, cfg)
			for _, d := range did {
				if !env.JSON {
					fmt.Fprintln(env.Stdout, d)
				}
			}
			return errors.Join(err, bad)
		}),
	}
}

// raises tells whether a daemon gives sockets and devices room.
func (c *Config) raises() bool {
	return slices.ContainsFunc(c.RealServers, func(s RealServer) bool { return s.Room != Room{} })
}

// A changeAnswer is a change, with --json.
type changeAnswer struct {
	Namespace string `json:"namespace,omitempty"`
	Object    string `json:"object"`
	From      string `json:"from"` // "" is absent
	To        string `json:"to"`
	Why       string `json:"why"`
	Left      bool   `json:"left"`
}

// changes prints what there is to make, or was made.
func showChanges(env *console.Env, list []host.Change, verb string) error {
	out := []changeAnswer{}
	for _, c := range list {
		out = append(out, changeAnswer{string(c.Space), c.Object, c.From, c.To, c.Why, c.Left})
	}
	return env.Show(map[string][]changeAnswer{"changes": out}, func(p *console.Page) { changesPage(p, list, verb) })
}

func changesPage(p *console.Page, list []host.Change, verb string) {
	for _, c := range list {
		if c.Space != "" {
			p.Line("[%s] %s", c.Space, c)
		} else {
			p.Line("%s", c)
		}
	}
	n := toDo(list)
	switch left := len(list) - n; {
	case n == 0 && left == 0:
		p.Line("the host is as it has to be")
	case left == 0:
		p.Line("%s %s", console.Some(n, "change"), verb)
	default:
		p.Line("%s %s, %s left to whom they belong to", console.Some(n, "change"), verb, console.Number(left))
	}
}

func doctorCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "doctor", Usage: "say what is wrong with this host, and what helps",
		Description: console.Describe(`
Looks for what keeps tunnels from working here: settings, addresses, routes, the firewall, and by
packets where a setting alone proves nothing; for faults that a drill has left; and asks each
terminator. Changes nothing. Exit code 6 if something breaks tunnels.`,
			"realserver doctor", "realserver doctor --json"),
		Flags: []cli.Flag{configFlag()},
		Action: onHost(func(c *cli.Context, cfg Config, h *host.Host) error {
			list, err := h.Doctor(c.Context)
			more, silent := silentTerminators(c.Context, cfg)
			left, unread := leftFaults(cfg)
			list = append(append(list, more...), left...)
			slices.SortStableFunc(list, func(a, b host.Finding) int { return rank(a.Severity) - rank(b.Severity) })
			if list == nil {
				list = []host.Finding{}
			}
			err = errors.Join(env.Show(map[string][]host.Finding{"findings": list}, func(p *console.Page) { doctorPage(p, list) }), err, silent, unread)
			if n := breaks(list); n > 0 && err == nil {
				return console.Coded(console.ExitNotWell, fmt.Errorf("tunnels break here: %s", console.Some(n, "finding")))
			}
			return err
		}),
	}
}

func breaks(list []host.Finding) (n int) {
	for _, f := range list {
		if f.Severity == host.Breaks {
			n++
		}
	}
	return n
}

func rank(s host.Severity) int {
	return slices.Index([]host.Severity{host.Breaks, host.Risks, host.Notes}, s)
}

func doctorPage(p *console.Page, list []host.Finding) {
	for _, f := range list {
		p.Line("%-6s  %s: %s  (%s)", f.Severity, f.Instance, f.What, f.ID)
		p.Line("        causes  %s", f.Causes)
		p.Line("        remedy  %s", f.Remedy)
	}
	if len(list) == 0 {
		p.Line("nothing is wrong")
	}
}

// silentTerminators are those that do not answer.
func silentTerminators(ctx context.Context, cfg Config) (out []host.Finding, err error) {
	instances, err := instancesOf(cfg)
	if err != nil {
		return nil, err
	}
	for _, in := range instances {
		limited, cancel := context.WithTimeout(ctx, 2*time.Second)
		_, err := in.Terminator.Tunnels(limited)
		cancel()
		if err != nil {
			out = append(out, host.Finding{ID: "terminator-silent", Instance: in.Name, Severity: host.Breaks,
				What:   fmt.Sprintf("the terminator (%s) does not answer: %v", in.Server.Terminator, err),
				Causes: "the agent calls it dead or headless, and directors place no tunnels here", Remedy: "start it, or correct terminator in the host's file"})
		}
	}
	return out, nil
}
