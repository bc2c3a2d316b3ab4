package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"

	"tunneldirector/cluster/ca"
	"tunneldirector/director/observe"
)

// errNoStream ends a connection on which a certificate was renewed, as it should.
var errNoStream = fmt.Errorf("%w: its certificate was renewed", observe.ErrServed)

// serveRenewal renews the certificate of who dialled by ca.RenewProtocol. It answers errNoStream when that is done.
func serveRenewal(ctx context.Context, c *tls.Conn, authority string, log *slog.Logger) error {
	is, err := ca.ServeRenewal(ctx, c, authority)
	if err != nil {
		return err
	}
	log.Info("certificate renewed for a peer", "identity", is.Identity.String(), "until", is.Expires, "sha256", is.SHA256)
	return errNoStream
}
