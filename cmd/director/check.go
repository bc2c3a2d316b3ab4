package main

import (
	"fmt"
	"net"

	"github.com/urfave/cli/v2"

	"tunneldirector/director/config"
)

func checkCommand() *cli.Command {
	return &cli.Command{
		Name:  "check",
		Usage: "check the node's file, the tokens and this machine, and change nothing",
		Description: "Reads the node's file as `director run` would, with all faults at once, then looks whether the interfaces exist\n" +
			"and what of the kernel's settings works against the director. Says what it found; exit code 1 if the director\n" +
			"could not run.\n\n" +
			"Example: director check --config /etc/tunneldirector/director.yaml",
		Flags: []cli.Flag{configFileFlag()},
		Action: func(c *cli.Context) error {
			path := c.String(configFlag)
			cfg, err := config.Read(path)
			if err != nil {
				return err
			}
			if _, err := readTokens(cfg); err != nil {
				return err
			}
			fmt.Fprintf(c.App.Writer, "%s: director %s, plane %s, data in %s\n", path, cfg.Name, cfg.Plane, cfg.DataDir)
			for _, w := range cfg.Warnings() {
				fmt.Fprintln(c.App.Writer, "warning:", w)
			}
			if cfg.Plane == config.PlaneMem {
				return nil
			}
			return checkMachine(c, cfg)
		},
	}
}

// checkMachine looks at the interfaces and the kernel's settings.
func checkMachine(c *cli.Context, cfg config.Config) error {
	missing := 0
	for n, i := range cfg.Interfaces {
		if _, err := net.InterfaceByName(i.Name); err != nil {
			missing++
			fmt.Fprintf(c.App.Writer, "fault: interfaces[%d].name %q: no such interface on this machine\n", n, i.Name)
		}
	}
	for _, f := range findings(planeInterfaces(cfg.Interfaces)) {
		fmt.Fprintln(c.App.Writer, "finding:", f)
	}
	if missing > 0 {
		return fmt.Errorf("%d interfaces are missing; `ip -br link` lists those that are there", missing)
	}
	fmt.Fprintln(c.App.Writer, "all interfaces are there")
	return nil
}
