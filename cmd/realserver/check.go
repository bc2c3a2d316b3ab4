package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"tunneldirector/cmd/console"
	"tunneldirector/director/config/tree"
	"tunneldirector/realserver/space"
)

// A checkAnswer is what check found, with --json.
type checkAnswer struct {
	File     string      `json:"file"`
	Host     string      `json:"host,omitempty"` // of a file without faults
	Warnings []string    `json:"warnings"`
	Faults   tree.Faults `json:"faults"` // they keep the agent from running
	Runs     bool        `json:"can_run"`
}

func checkCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "check", Usage: "check the host's file and this machine, and change nothing",
		Description: console.Describe(`
Reads the host's file as run would, with all faults at once, then looks at this machine: certificate,
rights, directories, network namespaces, interfaces. Exit code 1 if an agent could not run. What the
forwarding methods need of the host is shown by plan, what is wrong with it by doctor.

With --json, faults are objects with path, problem (with what would be right), line and column.`,
			"realserver check --config /etc/tunneldirector/realserver.yaml", "realserver check --json"),
		Flags: []cli.Flag{configFlag()},
		Action: func(c *cli.Context) error {
			if err := takes(c, 0); err != nil {
				return err
			}
			a := checkAnswer{File: c.String(flagConfig), Warnings: []string{}, Faults: tree.Faults{}}
			cfg, err := readBy(Parse, a.File)
			if err == nil {
				err = a.look(cfg)
			}
			if a.Runs = err == nil; !a.Runs && !errors.As(err, &a.Faults) {
				a.Faults = tree.Faults{{Problem: err.Error()}}
			}
			return errors.Join(env.Show(a, func(p *console.Page) { a.page(p, cfg) }), err)
		},
	}
}

// look finds what there is to find. Its error is what keeps the agent from running.
func (a *checkAnswer) look(cfg Config) error {
	a.Host = cfg.Host
	if faults := machineFaults(cfg, os.Geteuid() == 0, a); len(faults) > 0 {
		return errors.Join(fmt.Errorf("this machine cannot run the agent of host %s", cfg.Host), faults)
	}
	return nil
}

// page is for people, whom the error tells of faults.
func (a *checkAnswer) page(p *console.Page, cfg Config) {
	if a.Host != "" {
		p.Line("%s: host %s, %s, %s", a.File, a.Host, console.Some(len(cfg.RealServers), "real server"), console.Some(len(cfg.Directors), "director"))
	}
	for _, w := range a.Warnings {
		p.Line("warning: %s", w)
	}
	if a.Runs {
		p.Line("an agent can run here")
	}
}

// machineFaults are what of this machine keeps the agent from running, each with the key that is concerned. It changes nothing.
func machineFaults(cfg Config, root bool, a *checkAnswer) (out tree.Faults) {
	add := func(path, format string, args ...any) {
		out = append(out, tree.Fault{Path: path, Problem: fmt.Sprintf(format, args...)})
	}
	if !root {
		add("", "the agent runs as root: it reads what the kernel tells root alone, and answers in network namespaces")
	}
	if own, err := openCredential(cfg, slog.New(slog.DiscardHandler)); err != nil {
		add("tls", "%v", errors.Unwrap(err))
	} else if alarm := own.Alarm(); alarm != "" {
		a.Warnings = append(a.Warnings, alarm)
	}
	if cfg.Drill.Allow {
		a.Warnings = append(a.Warnings, "drill.allow is true: directors may have this agent kill and stop terminators and cut this host off, for drills")
	}
	if err := writable(cfg.StateDir); err != nil {
		add("state_dir", "%v", err)
	}
	if err := writable(filepath.Dir(cfg.Socket)); err != nil {
		add("socket", "%v", err)
	}
	if _, err := hostOf(cfg); err != nil {
		add("real_servers", "%v", err)
	}
	if _, err := instancesOf(cfg); err != nil {
		add("", "%v", err)
	}
	for i, s := range cfg.RealServers {
		path := fmt.Sprintf("real_servers[%d]", i)
		var missing error
		err := space.Space(s.Namespace).Do(func() error {
			_, missing = net.InterfaceByName(s.Interface)
			return nil
		})
		switch {
		case err != nil:
			add(path+".namespace", "%v", err)
		case missing != nil:
			add(path+".interface", "%q is not an interface there; `ip -br link` lists those that there are", s.Interface)
		}
	}
	return out
}

// writable says why files could not be made in a directory, or it not be made itself. It makes nothing to find out.
func writable(dir string) error {
	for {
		st, err := os.Stat(dir)
		if errors.Is(err, fs.ErrNotExist) && dir != filepath.Dir(dir) {
			dir = filepath.Dir(dir)
			continue
		}
		if err == nil && !st.IsDir() {
			return fmt.Errorf("%s is not a directory", dir)
		}
		if err == nil {
			err = unix.Access(dir, unix.W_OK|unix.X_OK)
		}
		if err != nil {
			return fmt.Errorf("files cannot be made in %s: %w", dir, err)
		}
		return nil
	}
}
