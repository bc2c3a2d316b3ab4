// Package cluster holds several directors' programs, with agents and real tunnels, against what befalls them: deaths, stops, cuts,
// full disks, upgrades. Packets are counted all along at the ends of the tunnels.
package cluster
