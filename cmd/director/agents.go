package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"

	"golang.org/x/sync/errgroup"

	"tunneldirector/cluster/ca"
	loop "tunneldirector/director"
	"tunneldirector/director/agent"
	"tunneldirector/director/config"
	"tunneldirector/director/observe"
)

// listenAgents opens what agents dial; none if the node's file names nothing.
func listenAgents(c config.Agents) ([]net.Listener, error) {
	var out []net.Listener
	for _, address := range c.Listen {
		l, err := net.Listen("tcp", address)
		if err != nil {
			for _, l := range out {
				_ = l.Close()
			}
			return nil, fmt.Errorf("listen for agents: %w", err)
		}
		out = append(out, l)
	}
	return out, nil
}

// serveAgents serves the agents on real servers until ctx ends. Who dials proves by its certificate whose host's agent it is.
func serveAgents(ctx context.Context, book *observe.Book, d *loop.Director, own *ca.Credential, listeners []net.Listener, log *slog.Logger) error {
	o := d.AgentOptions()
	o.Who = func(ctx context.Context, c net.Conn) (string, error) {
		t, ok := c.(*tls.Conn)
		if !ok {
			return "", errors.New("not a TLS connection")
		}
		if err := t.HandshakeContext(ctx); err != nil {
			return "", err
		}
		who, err := ca.Peer(t.ConnectionState())
		return who.Name, err
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, l := range listeners {
		g.Go(func() error {
			return book.Serve(ctx, tls.NewListener(l, own.ServerConfig(ca.RoleAgent, agent.Protocol)), o)
		})
		log.Info("agents are served", "address", l.Addr().String(), "as", own.Identity().String())
	}
	return g.Wait()
}

// certificateAlarm tells weeks before the certificate towards agents ends.
func certificateAlarm(own *ca.Credential) func() []string {
	return func() []string {
		if own == nil || own.Alarm() == "" {
			return nil
		}
		return []string{own.Alarm()}
	}
}
