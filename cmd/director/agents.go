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

// agents is how the agents on real servers are heard. The zero value: they are not.
type agents struct {
	own       *ca.Credential
	book      *observe.Book
	listeners []net.Listener
	authority string // directory of the cluster's authority; "": it is not here
	renew     ca.Ask // certifies own anew; nil: people do
}

// openAgents opens what agents dial, if the node's file names something.
func openAgents(cfg config.Config, log *slog.Logger) (agents, error) {
	own, err := credential(cfg, log)
	if own == nil || err != nil {
		return agents{}, err
	}
	a := agents{own: own, book: observe.NewBook(nil)}
	if cfg.Cluster != nil {
		a.authority = cfg.Cluster.Authority
	}
	if a.authority != "" {
		a.renew = ca.Locally(a.authority, own)
	}
	for _, address := range cfg.Agents.Listen {
		l, err := net.Listen("tcp", address)
		if err != nil {
			for _, l := range a.listeners {
				_ = l.Close()
			}
			return agents{}, fmt.Errorf("listen for agents: %w", err)
		}
		a.listeners = append(a.listeners, l)
	}
	return a, nil
}

// alarms tell weeks before the certificate towards agents ends.
func (a agents) alarms() []string {
	if a.own == nil || a.own.Alarm() == "" {
		return nil
	}
	return []string{a.own.Alarm()}
}

// serve serves the agents until ctx ends. Who dials proves by its certificate whose host's agent it is.
func (a agents) serve(ctx context.Context, d *loop.Director, log *slog.Logger) error {
	o := d.AgentOptions()
	o.Who = func(ctx context.Context, c net.Conn) (string, error) {
		t, ok := c.(*tls.Conn)
		if !ok {
			return "", errors.New("not a TLS connection")
		}
		if err := t.HandshakeContext(ctx); err != nil {
			return "", err
		}
		if t.ConnectionState().NegotiatedProtocol == ca.RenewProtocol {
			return "", serveRenewal(ctx, t, a.authority, log)
		}
		who, err := ca.Peer(t.ConnectionState())
		return who.Name, err
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, l := range a.listeners {
		g.Go(func() error {
			return a.book.Serve(ctx, tls.NewListener(l, a.own.ServerConfig(ca.RoleAgent, agent.Protocol, ca.RenewProtocol)), o)
		})
		log.Info("agents are served", "address", l.Addr().String(), "as", a.own.Identity().String())
	}
	if a.renew != nil {
		g.Go(func() error { return ca.Renewer{Credential: a.own, Ask: a.renew, Log: log}.Run(ctx) })
	}
	return g.Wait()
}
