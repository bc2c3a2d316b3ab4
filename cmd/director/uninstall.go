package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"tunneldirector/cmd/console"
	"tunneldirector/director/config"
)

func uninstallCommand() *cli.Command {
	return &cli.Command{
		Name: "uninstall", Usage: "take all that is the director's out of the kernel",
		Description: console.Describe(`
Ends forwarding. Stop the daemon first. The table on disk stays. In this order: VIPs are given up, XDP programs
are detached and their maps removed, IPVS services, routes and rules are deleted, the packet filter goes last.`,
			"systemctl stop tunneldirector && director uninstall --yes"),
		Flags: []cli.Flag{configFileFlag(), &cli.BoolFlag{Name: "yes", Usage: "yes, end forwarding"}},
		Action: func(c *cli.Context) error {
			if !c.Bool("yes") {
				return console.Usage("this ends forwarding on this machine; say --yes")
			}
			cfg, err := config.Read(c.String(configFlag))
			if err != nil {
				return err
			}
			if l, err := listenUnix(cfg.API.Socket); cfg.API.Socket.Path != "" && err != nil {
				return fmt.Errorf("the daemon seems to run: %w", err)
			} else if l != nil {
				_ = l.Close()
			}
			return uninstall(c.Context, planeInterfaces(cfg.Interfaces), newLogger(cfg.Log, c.App.ErrWriter))
		},
	}
}
