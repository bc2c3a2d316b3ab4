package ca

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"time"
)

// A Renewer renews a credential for as long as it runs.
type Renewer struct {
	Credential *Credential
	Ask        Ask
	Log        *slog.Logger
}

const (
	// retry is how long after a try that failed there is another one, a quarter more or less;
	retry = time.Hour
	// of a certificate that is to live for less than a day it is this part of its life.
	retryPart = 24
	tryLimit  = 2 * time.Minute
)

// Run renews the certificate when it is due, until ctx ends. What fails is logged, told by the credential's Alarm, and tried
// again every hour, also when the certificate has expired: an operator may issue a new one, and then the next is waited for.
func (r Renewer) Run(ctx context.Context) error {
	c := r.Credential
	c.mu.Lock()
	c.renews = true
	c.mu.Unlock()
	if err := c.settle(); err != nil {
		r.Log.Warn("certificate not renewed", "error", err)
	}
	for said := ""; ; {
		wait := r.pause()
		if left := time.Until(c.DueAt()); left > 0 {
			wait = min(left, wait) // the clock may be set, and the files replaced
		} else if err := r.once(ctx); err == nil {
			r.Log.Info("certificate renewed itself", "identity", c.Identity().String(), "until", c.Expires())
			said = ""
		} else if said != err.Error() && ctx.Err() == nil {
			r.Log.Warn("certificate not renewed", "identity", c.Identity().String(), "until", c.Expires(), "again_in", wait, "error", err)
			said = err.Error()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// pause is how long to wait before the next look.
func (r Renewer) pause() time.Duration {
	m, _ := r.Credential.look() // why files are of no use was logged
	_, life := m.is.life()
	p := max(time.Second, min(retry, life/retryPart))
	return p*3/4 + rand.N(p/2)
}

func (r Renewer) once(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, tryLimit)
	defer cancel()
	return r.Credential.Renew(ctx, r.Ask)
}

// Remotely asks directors over connections of dial (net.Dialer.DialContext), as RemotelyOver does.
func Remotely(own *Credential, addresses func() []string, dial func(ctx context.Context, network, address string) (net.Conn, error)) Ask {
	return RemotelyOver(addresses, func(ctx context.Context, address string) (net.Conn, error) {
		raw, err := dial(ctx, "tcp", address)
		if err != nil {
			return nil, err
		}
		c := tls.Client(raw, own.ClientConfig(RoleDirector, RenewProtocol))
		if err := c.HandshakeContext(ctx); err != nil {
			return nil, errors.Join(err, raw.Close())
		}
		return c, nil
	})
}

// RemotelyOver asks directors, one after another, until one that has an authority certifies. The addresses are those where they
// take streams; dial connects by ClientConfig with RenewProtocol, and shakes hands.
func RemotelyOver(addresses func() []string, dial func(ctx context.Context, address string) (net.Conn, error)) Ask {
	return func(ctx context.Context, request []byte) ([]byte, error) {
		var failed []error
		for _, a := range addresses() {
			chain, err := askAt(ctx, a, request, dial)
			if err == nil {
				return chain, nil
			}
			failed = append(failed, fmt.Errorf("%s: %w", a, err))
		}
		if len(failed) == 0 {
			return nil, errors.New("ask for a renewal: no director is known that could have the authority")
		}
		return nil, fmt.Errorf("ask for a renewal: %w", errors.Join(failed...))
	}
}

func askAt(ctx context.Context, address string, request []byte, dial func(ctx context.Context, address string) (net.Conn, error)) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, wireLimit)
	defer cancel()
	c, err := dial(ctx, address)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return AskRenewal(ctx, c, request)
}
