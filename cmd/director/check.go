package main

import (
	"fmt"
	"log/slog"

	"github.com/urfave/cli/v2"

	"tunneldirector/director/config"
)

func checkCommand() *cli.Command {
	return &cli.Command{
		Name:  "check",
		Usage: "check the node's file, the tokens and this machine, and change nothing",
		Description: "Reads the node's file as `director run` would, with all faults at once, then looks at this machine: token file,\n" +
			"certificates, interfaces, data directory, rights, bpffs or IPVS (whose module the kernel may load for it), and\n" +
			"what of the kernel's settings works against the director. Says what it found; exit code 1 if the director\n" +
			"could not run. Which plane `plane: auto` means depends on the records too, which are not read here.\n\n" +
			"Example: director check --config /etc/tunneldirector/director.yaml",
		Flags: []cli.Flag{configFileFlag()},
		Action: func(c *cli.Context) error {
			path := c.String(configFlag)
			cfg, err := config.Read(path)
			if err != nil {
				return err
			}
			plane := likely(cfg)
			fmt.Fprintf(c.App.Writer, "%s: director %s, plane %s, data in %s\n", path, cfg.Name, plane, cfg.DataDir)
			for _, w := range cfg.Warnings() {
				fmt.Fprintln(c.App.Writer, "warning:", w)
			}
			if there := present(cfg.Interfaces); config.Forwards(plane.kind) && len(there) > 0 {
				found, err := findings(plane.kind, cfg.Silent(), planeInterfaces(there), 0, 0)
				if err != nil {
					fmt.Fprintln(c.App.Writer, "finding:", err)
				}
				for _, f := range found {
					fmt.Fprintln(c.App.Writer, "finding:", f)
				}
			}
			if cfg.Cluster != nil {
				if w := authorityTrouble(cfg.Cluster.Authority); w != "" {
					fmt.Fprintln(c.App.Writer, "finding:", w)
				}
			}
			// One that has expired keeps no director from running, and is no fault: agents stay away.
			if own, err := credential(cfg, slog.New(slog.DiscardHandler)); err == nil && own != nil && own.Alarm() != "" {
				fmt.Fprintln(c.App.Writer, "finding: agents.tls:", own.Alarm())
			}
			if err := machineError(cfg, plane.kind); err != nil {
				return err
			}
			fmt.Fprintln(c.App.Writer, "a director can run here")
			return nil
		},
	}
}
