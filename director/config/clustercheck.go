package config

import (
	"fmt"
	"net/netip"
	"slices"
)

// checkCluster: what a member cannot do without, and that its listeners are apart.
func (r *reader) checkCluster(c *Config) {
	k := c.Cluster
	if k == nil || slices.ContainsFunc(r.Faults, func(f Fault) bool { return f.Path == "cluster" }) {
		return
	}
	if k.Rank == 0 && r.quiet("cluster.rank") {
		r.FaultAt("cluster.rank", "is missing; 1 to %d, another one for each director: of the live ones the lowest assigns", maxRank)
	}
	if k.Keyring == "" && r.quiet("cluster.keyring") {
		r.FaultAt("cluster.keyring", "is missing; the file with the keys of gossip and heartbeats, made by `director cluster init` and `director cluster join`")
	}
	if t := k.TLS; (t.Cert == "" || t.Key == "" || t.CA == "") && r.quiet("cluster.tls") {
		r.FaultAt("cluster.tls", "needs cert, key and ca, all three: directors know each other by certificates; `director cluster init` and `director cluster join` make them")
	}
	said := func(path string) bool { return r.Lines[path] > 0 }
	if !k.Listen.IsValid() && !k.Gossip.IsValid() && len(k.Heartbeat) == 0 && r.quiet("cluster.listen") && r.quiet("cluster.gossip") {
		r.FaultAt("cluster.listen", "is missing; an address of this director that the others reach: 10.0.0.1:%d; gossip and heartbeat follow it where they are not said", PortStream)
	}
	for i, a := range k.Heartbeat {
		path := fmt.Sprintf("cluster.heartbeat[%d]", i)
		if a.IsValid() && slices.Contains(k.Heartbeat[:i], a) {
			r.FaultAt(path, "%s stands twice; each path has an address of its own", a)
		}
		if a.IsValid() && a == k.Gossip {
			r.FaultAt(path, "%s is cluster.gossip already; heartbeats need a port of their own", a)
		}
	}
	if k.Listen.IsValid() && k.Listen == k.Gossip {
		path, other := "cluster.gossip", "cluster.listen"
		if !said(path) {
			path, other = other, path
		}
		r.FaultAt(path, "%s is %s already; streams and gossip need a port each", k.Gossip, other)
	}
	for i, s := range k.Join {
		if s != "" && slices.Contains(k.Join[:i], s) {
			r.FaultAt(fmt.Sprintf("cluster.join[%d]", i), "%q stands twice", s)
		}
	}
	r.checkPorts(c)
}

// checkPorts holds the cluster's TCP listeners against all others.
func (r *reader) checkPorts(c *Config) {
	type listener struct{ path, address string }
	var others []listener
	for i, s := range c.API.Listen {
		others = append(others, listener{fmt.Sprintf("api.listen[%d]", i), s})
	}
	for i, s := range c.Agents.Listen {
		others = append(others, listener{fmt.Sprintf("agents.listen[%d]", i), s})
	}
	others = append(others, listener{"metrics.listen", c.Metrics.Listen})
	for _, own := range []struct {
		path string
		addr netip.AddrPort
	}{{"cluster.listen", c.Cluster.Listen}, {"cluster.gossip", c.Cluster.Gossip}} {
		for _, o := range others {
			if overlap(own.addr, o.address) {
				r.FaultAt(own.path, "%s is taken by %s (%s); it needs a port of its own", own.addr, o.path, o.address)
			}
		}
	}
}

// overlap tells whether a socket on a could not be opened beside one on other.
func overlap(a netip.AddrPort, other string) bool {
	o, err := netip.ParseAddrPort(other)
	return a.IsValid() && err == nil && a.Port() == o.Port() && (a.Addr() == o.Addr() || o.Addr().IsUnspecified())
}

// sides are the roles of interfaces that a forwarding director needs.
func (c *Config) sides() []string {
	if c.Cluster != nil && c.Cluster.Role == RoleSubnetSide {
		return []string{RoleSubnet, RoleRealServers}
	}
	return []string{RoleTunnel, RoleRealServers}
}

// clusterWarnings are what a member had better not do.
func (c Config) clusterWarnings() (list []string) {
	k := c.Cluster
	if k == nil {
		return nil
	}
	for _, a := range append([]netip.AddrPort{k.Listen, k.Gossip}, k.Heartbeat...) {
		if a.Addr().IsLoopback() {
			list = append(list, fmt.Sprintf("cluster: only directors on this machine reach %s; write the address that others reach", a))
			break
		}
	}
	return list
}
