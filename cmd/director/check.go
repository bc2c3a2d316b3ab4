package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"tunneldirector/director/config"
)

func checkCommand() *cli.Command {
	return &cli.Command{
		Name:  "check",
		Usage: "check the node's file, the tokens and this machine, and change nothing",
		Description: "Reads the node's file as `director run` would, with all faults at once, then looks at this machine: token file,\n" +
			"certificate, interfaces, data directory, rights, bpffs, and what of the kernel's settings works against the\n" +
			"director. Says what it found; exit code 1 if the director could not run.\n\n" +
			"Example: director check --config /etc/tunneldirector/director.yaml",
		Flags: []cli.Flag{configFileFlag()},
		Action: func(c *cli.Context) error {
			path := c.String(configFlag)
			cfg, err := config.Read(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(c.App.Writer, "%s: director %s, plane %s, data in %s\n", path, cfg.Name, cfg.Plane, cfg.DataDir)
			for _, w := range cfg.Warnings() {
				fmt.Fprintln(c.App.Writer, "warning:", w)
			}
			if there := present(cfg.Interfaces); cfg.Plane != config.PlaneMem && len(there) > 0 {
				for _, f := range findings(planeInterfaces(there)) {
					fmt.Fprintln(c.App.Writer, "finding:", f)
				}
			}
			if err := machineError(cfg); err != nil {
				return err
			}
			fmt.Fprintln(c.App.Writer, "a director can run here")
			return nil
		},
	}
}
