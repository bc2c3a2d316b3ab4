//go:build !linux

package main

import "tunneldirector/director/config"

func hostFaults(_ config.Config, kind string) config.Faults {
	if kind == config.PlaneMem {
		return nil
	}
	return config.Faults{{Path: "plane", Problem: errNotLinux.Error()}}
}
