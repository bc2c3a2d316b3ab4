package config

import (
	"fmt"
	"slices"
	"strings"
)

// check holds the settings against each other.
func (r *reader) check(c *Config) {
	if c.Name == "" && r.quiet("name") {
		r.FaultAt("name", "is missing; a director needs a name that no peer has")
	}
	r.checkInterfaces(c)
	r.checkIPVS(c)
	r.checkAPI(c)
	r.checkAgents(c)
	r.checkCluster(c)
	if c.Probe.Timeout > c.Probe.Interval {
		r.FaultAt("probe.timeout", "%s is longer than the interval %s; at most as long", c.Probe.Timeout, c.Probe.Interval)
	}
}

// quiet tells whether nothing was said about a path yet.
func (r *reader) quiet(path string) bool {
	return !slices.ContainsFunc(r.Faults, func(f Fault) bool { return strings.HasPrefix(f.Path, path) })
}

func (r *reader) checkInterfaces(c *Config) {
	seen := map[string]int{}
	have := map[string]bool{}
	for i, x := range c.Interfaces {
		path := fmt.Sprintf("interfaces[%d]", i)
		rolesRead := r.quiet(path + ".roles")
		if first, twice := seen[x.Name]; twice && x.Name != "" {
			r.FaultAt(path+".name", "%q stands in interfaces[%d] already; give one entry all its roles", x.Name, first)
		}
		seen[x.Name] = i
		if x.Name == "" && r.quiet(path+".name") {
			r.FaultAt(path+".name", "is missing")
		}
		if len(x.Roles) == 0 && rolesRead {
			r.FaultAt(path+".roles", "is missing; one or more of %s, %s, %s", RoleTunnel, RoleSubnet, RoleRealServers)
		}
		for j, role := range x.Roles {
			if slices.Contains(x.Roles[:j], role) {
				r.FaultAt(path+".roles", "%q stands twice", role)
			}
			have[role] = true
		}
		if slices.Contains(x.Roles, RoleSubnet) || !rolesRead {
			continue
		}
		for _, key := range []string{"tenant", "vlans"} {
			if r.Lines[path+"."+key] > 0 {
				r.FaultAt(path+"."+key, "tells tenants apart on the subnet side; add the role %s or leave it out", RoleSubnet)
			}
		}
	}
	if !Forwards(c.Plane) || !r.quiet("interfaces") {
		return
	}
	for _, role := range c.sides() {
		if !have[role] {
			r.FaultAt("interfaces", "none has the role %s; plane %s needs one (shadow and mem do not)", role, c.Plane)
		}
	}
}

// checkIPVS holds the interfaces against what plane ipvs can do.
func (r *reader) checkIPVS(c *Config) {
	if c.Plane != PlaneIPVS {
		return
	}
	for i, x := range c.Interfaces {
		if len(x.VLANs) > 0 {
			r.FaultAt(fmt.Sprintf("interfaces[%d].vlans", i), "plane ipvs takes no 802.1Q tags off; name the VLAN devices (%s.100) as interfaces, each with its tenant, or take plane: xdp", x.Name)
		}
	}
}

func (r *reader) checkAPI(c *Config) {
	a := &c.API
	for i, s := range a.Listen {
		if slices.Contains(a.Listen[:i], s) {
			r.FaultAt(fmt.Sprintf("api.listen[%d]", i), "%q stands twice", s)
		}
		if s == c.Metrics.Listen {
			r.FaultAt("metrics.listen", "%q is in api.listen already, and /metrics is served there too", s)
		}
	}
	if a.Socket.Path == "" && len(a.Listen) == 0 && r.quiet("api") {
		r.FaultAt("api", "nothing listens; give api.socket.path or api.listen")
	}
	if (a.TLS.Cert == "") != (a.TLS.Key == "") && r.quiet("api.tls") {
		r.FaultAt("api.tls", "needs both cert and key, or neither")
	}
	if a.TokensFile != "" || !r.quiet("api.tokens_file") {
		return
	}
	const remedy = "without api.tokens_file only loopback addresses and the unix socket may listen; set it, or listen on 127.0.0.1 or [::1]"
	for i, s := range a.Listen {
		if !isLoopback(s) {
			r.FaultAt(fmt.Sprintf("api.listen[%d]", i), "%s is not loopback: %s", s, remedy)
		}
	}
	if c.Metrics.Listen != "" && !isLoopback(c.Metrics.Listen) {
		r.FaultAt("metrics.listen", "%s is not loopback: %s", c.Metrics.Listen, remedy)
	}
}

// checkAgents: who listens for agents knows them by certificates, and has one.
func (r *reader) checkAgents(c *Config) {
	a := &c.Agents
	for i, s := range a.Listen {
		path := fmt.Sprintf("agents.listen[%d]", i)
		switch {
		case s == "": // said already
		case slices.Contains(a.Listen[:i], s):
			r.FaultAt(path, "%q stands twice", s)
		case slices.Contains(c.API.Listen, s):
			r.FaultAt(path, "%q is in api.listen already; agents need a port of their own", s)
		case s == c.Metrics.Listen:
			r.FaultAt(path, "%q is metrics.listen already; agents need a port of their own", s)
		}
	}
	if !r.quiet("agents") {
		return
	}
	named := 0
	for _, f := range []string{a.TLS.Cert, a.TLS.Key, a.TLS.CA} {
		if f != "" {
			named++
		}
	}
	switch {
	case named > 0 && named < 3:
		r.FaultAt("agents.tls", "needs cert, key and ca, all three; director ca issue makes them")
	case named == 0 && len(a.Listen) > 0:
		r.FaultAt("agents.listen", "agents are known by certificates; set agents.tls (director ca issue makes the files), or listen nowhere")
	case named > 0 && len(a.Listen) == 0:
		r.FaultAt("agents.tls", "is for nothing without agents.listen; set that, or leave it out")
	}
}

// Warnings are what a valid configuration had better not do.
func (c Config) Warnings() []string {
	var list []string
	for i, s := range c.API.Listen {
		if !isLoopback(s) && c.API.TLS.Cert == "" {
			list = append(list, fmt.Sprintf("api.listen[%d]: tokens travel to %s in the clear; set api.tls", i, s))
		}
	}
	if c.API.Socket.Path != "" && c.API.Socket.Mode&0o006 != 0 {
		list = append(list, fmt.Sprintf("api.socket.mode: %#o lets every user of this machine be an operator; 0660 and a group is safer", c.API.Socket.Mode))
	}
	if v := c.Probe.Verdict().Seconds(); v > 5 {
		list = append(list, fmt.Sprintf("probe: a dead real server is noticed after up to %.1f s", v))
	}
	return append(list, c.clusterWarnings()...)
}
