package main

import "tunneldirector/cluster/ca"

// renewer renews the agent's certificate by one of the directors.
func (d *daemon) renewer() ca.Renewer {
	addresses := make([]string, len(d.cfg.Directors))
	for i, a := range d.cfg.Directors {
		addresses[i] = a.String()
	}
	dial := newCaller(d.cfg, d.own.ClientConfig(ca.RoleDirector, ca.RenewProtocol)).dial
	return ca.Renewer{Credential: d.own, Log: d.log, Ask: ca.RemotelyOver(func() []string { return addresses }, dial)}
}
