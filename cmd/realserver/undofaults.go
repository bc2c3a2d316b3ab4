package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/urfave/cli/v2"

	"tunneldirector/cmd/console"
	"tunneldirector/director/drill/fault"
	"tunneldirector/realserver"
	"tunneldirector/realserver/host"
)

func undoFaultsCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "undo-faults", Usage: "undo all that a drill has broken on this host",
		Description: console.Describe(`
Undoes the faults that are in place here, made for drills: by the agent that runs, or, if none does, by
itself, from what is kept in state_dir. Of the host's file no more than state_dir and socket has to be
right. Each is undone after its time anyway while an agent runs, and when one starts.`,
			"realserver undo-faults", "realserver undo-faults --json"),
		Flags: []cli.Flag{configFlag()},
		Action: configuredBy(ParsePlaces, func(c *cli.Context, cfg Config) error {
			list, err := undoFaults(c.Context, cfg)
			if err != nil {
				return err
			}
			if err := env.Show(map[string][]realserver.UndoneFault{"faults": list}, func(p *console.Page) { undonePage(p, list) }); err != nil {
				return err
			}
			failed := 0
			for _, f := range list {
				if !f.Undone {
					failed++
				}
			}
			if failed > 0 {
				return fmt.Errorf("%s could not be undone", console.Some(failed, "fault"))
			}
			return nil
		}),
	}
}

// undoFaults has the agent undo them, or does it itself.
func undoFaults(ctx context.Context, cfg Config) ([]realserver.UndoneFault, error) {
	list := []realserver.UndoneFault{}
	if n, err := net.Dial("unix", cfg.Socket); err == nil {
		_ = n.Close()
		return list, talk(ctx, http.MethodPost, cfg.Socket, "/undo-faults", &list)
	}
	l, err := fault.Open(ctx, ledgerOf(cfg), fault.Known(), slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	for _, f := range faultsOf(l.Left()) {
		list = append(list, realserver.UndoneFault{FaultStatus: f, Undone: true})
	}
	for _, f := range faultsOf(l.List()) {
		list = append(list, realserver.UndoneFault{FaultStatus: f})
	}
	return list, l.Close()
}

func undonePage(p *console.Page, list []realserver.UndoneFault) {
	for _, f := range list {
		if f.Undone {
			p.Line("undone      %s of %s, made at %s by %s", f.Kind, f.RealServer, f.Made.UTC().Format(time.RFC3339), cmp.Or(f.By, "somebody"))
		} else {
			p.Line("NOT undone  %s of %s: %s", f.Kind, f.RealServer, f.Error)
		}
	}
	if len(list) == 0 {
		p.Line("no faults are in place")
	}
}

// faultWords says that a fault is in place.
func faultWords(f realserver.FaultStatus) string {
	if f.Error != "" {
		return fmt.Sprintf("a drill's fault cannot be undone: %s of %s: %s", f.Kind, f.RealServer, f.Error)
	}
	return fmt.Sprintf("a drill's fault is in place until %s: %s of %s, by %s", f.Until.UTC().Format(time.RFC3339), f.Kind, f.RealServer, cmp.Or(f.By, "somebody"))
}

// leftFaults are the faults that are in place, by what is kept on the disk: whether an agent runs or not.
func leftFaults(cfg Config) (out []host.Finding, _ error) {
	list, err := fault.Recorded(ledgerOf(cfg), fault.Known())
	for _, f := range faultsOf(list) {
		out = append(out, host.Finding{ID: "fault-in-place", Instance: f.RealServer, Severity: host.Breaks, What: faultWords(f),
			Causes: "its tunnels are disturbed on purpose", Remedy: "realserver undo-faults"})
	}
	return out, err
}
