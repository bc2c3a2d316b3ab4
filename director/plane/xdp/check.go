package xdp

import (
	"tunneldirector/affinity"
	"tunneldirector/director/plane"
)

// Check tells what of c the program cannot do, on any machine: it keeps no state per flow, so it cannot undo a change of addresses.
func Check(c plane.Config) []plane.Inability {
	var out []plane.Inability
	for _, s := range c.Services {
		if s.Method == affinity.Masq {
			out = append(out, plane.Inability{Kind: "service", Name: s.Name, Fault: affinity.Fault{Field: "method", Value: s.Method.String(),
				Problem: "plane xdp keeps no state per flow, which masq needs", Remedy: "dr or tunnel; or run the director with plane: ipvs"}})
		}
	}
	return out
}
