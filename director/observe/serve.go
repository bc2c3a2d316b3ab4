package observe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"tunneldirector/director/agent"
	"tunneldirector/director/crowd"
)

// Options say how agents are served.
type Options struct {
	Name string // of this director
	Log  *slog.Logger
	// Who is the host whose agent a connection is of, as its certificate proves. It may block for the handshake.
	Who func(ctx context.Context, c net.Conn) (host string, err error)
	// May tells why the agent of a host may not speak for a real server; nil: it may.
	May func(host string, s agent.Server) error
	// Differs are sentences on how a real server's host is prepared for something else than the table says.
	Differs func(s agent.Server) []string
	// VIPs are a real server's. A tunnel at another address is none of ours, and left out. It is called without the Book's lock; an
	// agent that had some left out tells all again when they have changed. nil, or nil of a real server: all are taken.
	VIPs func(realServer string) []netip.Addr
}

const (
	maxLines     = 1024 // agents at once,
	maxHostLines = 64   // of which of one host
	handshakes   = 256  // connections that have not proved who they are yet,
	maxHandshake = 16   // of which from one address, of IPv6 from one /64
)

// Serve answers agents on a listener until ctx ends, and closes it. When it returns, all streams have ended.
func (b *Book) Serve(ctx context.Context, l net.Listener, o Options) error {
	var g errgroup.Group
	defer func() { _ = g.Wait() }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() }) // of this ctx: it has ended before Accept fails for that
	defer stop()
	grumble := grumbler{log: o.Log, limit: rate.NewLimiter(rate.Every(time.Second), 10)}
	lines, unproved := crowd.Room{All: maxLines, Each: maxHostLines}, crowd.Room{All: handshakes, Each: maxHandshake}
	for {
		c, err := l.Accept()
		if ctx.Err() != nil {
			if err == nil {
				_ = c.Close()
			}
			return nil
		}
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("serve agents on %s: %w", l.Addr(), err)
			}
			o.Log.Warn("accept an agent", "error", err)
			select { // out of file descriptors: they come back
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
			continue
		}
		from := crowd.From(c)
		if !unproved.Enter(from) {
			_ = c.Close()
			continue
		}
		g.Go(func() error {
			host, err := prove(ctx, c, o)
			unproved.Leave(from)
			if err == nil && !lines.Enter(host) {
				err = fmt.Errorf("%d agents are connected, or %d of host %s", maxLines, maxHostLines, host)
			}
			switch {
			case errors.Is(err, ErrServed), err != nil && ctx.Err() != nil:
				return c.Close()
			case err != nil:
				grumble.refused(c, err)
				return c.Close()
			}
			defer lines.Leave(host)
			switch err := b.Talk(ctx, c, host, o); {
			case ctx.Err() != nil:
			case errors.Is(err, io.EOF): // its own word: it stops, or asks again
				o.Log.Info("agent's stream ended", "host", host, "why", err)
			default:
				o.Log.Warn("agent's stream ended", "host", host, "error", err)
			}
			return nil
		})
	}
}

// ErrServed is wrapped by the error of Options.Who for a connection that wanted something else than a stream, and has got it.
var ErrServed = errors.New("served without a stream")

func prove(ctx context.Context, c net.Conn, o Options) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, agent.Patience)
	defer cancel()
	return o.Who(ctx, c)
}

// A grumbler logs who was refused, but no more than a stranger may fill a disk with.
type grumbler struct {
	log    *slog.Logger
	limit  *rate.Limiter
	silent atomic.Uint64 // refusals that were not logged since the last one that was
}

func (g *grumbler) refused(c net.Conn, why error) {
	if !g.limit.Allow() {
		g.silent.Add(1)
		return
	}
	g.log.Warn("agent refused", "remote", c.RemoteAddr().String(), "error", why, "others_not_logged", g.silent.Swap(0))
}
