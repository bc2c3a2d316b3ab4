package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"syscall"

	"tunneldirector/cluster/ca"
	"tunneldirector/cluster/gossip"
	"tunneldirector/director/config"
)

// clusterFaults are what keeps a director from being one of several here. It leaves no socket open.
func clusterFaults(cfg config.Config) (out config.Faults) {
	c := cfg.Cluster
	if c == nil {
		return nil
	}
	add := func(path string, err error) {
		if err != nil { // which begins with the path where it is one of the daemon's own
			out = append(out, config.Fault{Path: path, Problem: strings.TrimPrefix(err.Error(), path+": ")})
		}
	}
	_, err := gossip.OpenKeyring(c.Keyring)
	add("cluster.keyring", err)
	own, err := ca.Open(ca.Files(c.TLS), ca.RoleDirector, cfg.Name, slog.New(slog.DiscardHandler))
	add("cluster.tls", err)
	if err == nil {
		add("cluster.name", sameCluster(c.Name, own.Identity().Cluster))
	}
	listens := func(path string, err error) {
		if errors.Is(err, syscall.EADDRINUSE) && answers(cfg.API.Socket.Path) {
			return // by the director that runs, to be restarted
		}
		add(path, err)
	}
	l, err := listenStreams(c.Listen)
	if err == nil {
		err = l.Close()
	}
	listens("cluster.listen", err)
	for i, a := range c.Heartbeat {
		conn, err := listenBeats(i, a)
		if err == nil {
			err = conn.Close()
		}
		listens(fmt.Sprintf("cluster.heartbeat[%d]", i), err)
	}
	listens("cluster.gossip", gossipFree(c.Gossip))
	return out
}

// answers tells whether a director listens on a socket.
func answers(socket string) bool {
	if socket == "" {
		return false
	}
	c, err := net.Dial("unix", socket)
	if err != nil {
		return false
	}
	_ = c.Close()
	return true
}
