//go:build !linux

package main

import "tunneldirector/director/config"

func hostFaults(cfg config.Config) config.Faults {
	if cfg.Plane == config.PlaneMem {
		return nil
	}
	return config.Faults{{Path: "plane", Problem: errNotLinux.Error()}}
}
