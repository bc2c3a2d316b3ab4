package main

import (
	"errors"
	"log/slog"

	"github.com/urfave/cli/v2"

	"tunneldirector/cmd/console"
	"tunneldirector/director/config"
)

func checkCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "check", Usage: "check the node's file, the tokens and this machine, and change nothing",
		Description: console.Describe(`
Reads the node's file as run would, with all faults at once, then looks at this machine: token file,
certificates, interfaces, data directory, rights, bpffs or IPVS (whose module the kernel may load for it),
and what of the kernel's settings works against the director. Says what it found; exit code 1 if the
director could not run. Which plane auto means depends on the records too, which are not read here.

With --json, faults are objects with path, problem (with what would be right), line and column.`,
			"director check --config /etc/tunneldirector/director.yaml", "director check --config director.yaml --json"),
		Flags: []cli.Flag{configFileFlag()},
		Action: asksNobody(env, console.Count{}, func(t *talk) error {
			a := checkAnswer{File: t.String(configFlag), Warnings: []string{}, Findings: []string{}, Faults: config.Faults{}}
			err := a.look()
			if a.Runs = err == nil; !a.Runs && !errors.As(err, &a.Faults) {
				a.Faults = config.Faults{{Problem: err.Error()}}
			}
			return errors.Join(env.Show(a, a.page), err)
		}),
	}
}

// A checkAnswer is what check found, with --json.
type checkAnswer struct {
	File     string        `json:"file"`
	Director string        `json:"director,omitempty"` // these three only of a file without faults
	Plane    string        `json:"plane,omitempty"`
	DataDir  string        `json:"data_dir,omitempty"`
	Warnings []string      `json:"warnings"` // of the file
	Findings []string      `json:"findings"` // of this machine: they keep no director from running
	Faults   config.Faults `json:"faults"`   // these do
	Runs     bool          `json:"can_run"`
}

// look finds what there is to find. Its error is what keeps a director from running.
func (a *checkAnswer) look() error {
	cfg, err := config.Read(a.File)
	if err != nil {
		return err
	}
	plane := likely(cfg)
	a.Director, a.Plane, a.DataDir = cfg.Name, plane.String(), cfg.DataDir
	a.Warnings = append(a.Warnings, cfg.Warnings()...)
	finds := func(what string) { a.Findings = append(a.Findings, what) }
	if there := present(cfg.Interfaces); config.Forwards(plane.kind) && len(there) > 0 {
		found, err := findings(plane.kind, cfg.Silent(), planeInterfaces(there), 0, 0)
		if err != nil {
			finds(err.Error())
		}
		for _, f := range found {
			finds(f.String())
		}
	}
	if cfg.Cluster != nil {
		if w := authorityTrouble(cfg.Cluster.Authority); w != "" {
			finds(w)
		}
	}
	// One that has expired keeps no director from running, and is no fault: agents stay away.
	if own, err := credential(cfg, slog.New(slog.DiscardHandler)); err == nil && own != nil && own.Alarm() != "" {
		finds("agents.tls: " + own.Alarm())
	}
	return machineError(cfg, plane.kind)
}

// page is for people, whom the error tells of faults.
func (a checkAnswer) page(p *console.Page) {
	if a.Director != "" {
		p.Line("%s: director %s, plane %s, data in %s", a.File, a.Director, a.Plane, a.DataDir)
	}
	for _, w := range a.Warnings {
		p.Line("warning: %s", w)
	}
	for _, f := range a.Findings {
		p.Line("finding: %s", f)
	}
	if a.Runs {
		p.Line("a director can run here")
	}
}
