package main

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"

	"tunneldirector/cluster/ca"
)

// errNoStream ends a connection on which a certificate was renewed, as it should.
var errNoStream = errors.New("served, and no stream: its certificate was renewed")

// serveRenewal renews the certificate of who dialled by ca.RenewProtocol. It answers errNoStream when that is done.
func serveRenewal(ctx context.Context, c *tls.Conn, authority string, log *slog.Logger) error {
	is, err := ca.ServeRenewal(ctx, c, authority)
	if err != nil {
		return err
	}
	log.Info("certificate renewed for a peer", "identity", is.Identity.String(), "until", is.Expires, "sha256", is.SHA256)
	return errNoStream
}

// renewer renews this director's certificate: by the authority that is here, else by one of the directors whose addresses for
// streams peers tells.
func renewer(own *ca.Credential, authority string, peers func() []string, log *slog.Logger) ca.Renewer {
	r := ca.Renewer{Credential: own, Log: log}
	if authority != "" {
		r.Ask = ca.Locally(authority, own)
		return r
	}
	dialer := &tls.Dialer{Config: own.ClientConfig(ca.RoleDirector, ca.RenewProtocol)}
	r.Ask = ca.Remotely(peers, func(ctx context.Context, address string) (net.Conn, error) {
		return dialer.DialContext(ctx, "tcp", address)
	})
	return r
}
