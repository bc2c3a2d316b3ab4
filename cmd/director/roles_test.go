package main

import (
	"testing"

	"tunneldirector/cluster"
	"tunneldirector/director/config"
)

// A node's file names the roles of directors in package cluster's words.
func TestRolesOfDirectors(t *testing.T) {
	want := [3]cluster.Role{cluster.RoleBoth, cluster.RoleTunnel, cluster.RoleSubnet}
	if got := [3]cluster.Role{config.RoleBothSides, config.RoleTunnelSide, config.RoleSubnetSide}; got != want {
		t.Errorf("a node's file says %q, package cluster %q", got, want)
	}
}
