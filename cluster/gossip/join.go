package gossip

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"golang.org/x/sync/errgroup"
)

// lookupTimeout is for one name.
const lookupTimeout = 5 * time.Second

// join asks the configured and the known directors to take this one in, for ever. Names are resolved each time. Until one has
// answered, those are asked that are members already, too: where this director was away so shortly that nobody noticed, they
// would tell it nothing by themselves.
func (g *Gossip) join(ctx context.Context) {
	retry := backoff.NewExponentialBackOff()
	retry.InitialInterval, retry.MaxInterval = g.pace.retry, g.pace.rejoin
	conflict, answered := false, false
	for ctx.Err() == nil && !g.leaving.Load() {
		if g.joinAll(ctx, conflict || !answered) {
			answered = true
		}
		next := g.pace.rejoin
		if g.alone() {
			next = retry.NextBackOff()
		} else {
			retry.Reset()
		}
		if conflict = g.pause(ctx, next); conflict {
			sleep(ctx, g.pace.conflict)
		}
	}
}

// alone tells whether this director is with nobody, though there are others.
func (g *Gossip) alone() bool {
	return len(g.addrs()) == 0 && len(g.o.Join)+len(g.o.Known()) > 0
}

// pause waits for the time of the next round, and tells whether a conflict of names ended it early.
func (g *Gossip) pause(ctx context.Context, d time.Duration) (conflict bool) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	case <-g.heard:
	case <-g.again:
		return true
	}
	return false
}

// joinAll asks all configured and known directors that are no members (or all there are), and tells whether one answered.
func (g *Gossip) joinAll(ctx context.Context, members bool) bool {
	targets := g.targets(ctx)
	known := g.addrs()
	var answered atomic.Bool
	var tasks errgroup.Group
	for _, addr := range targets {
		if known[addr] {
			g.faults.Clear(joining(addr)) // it asked, or was found by others
		}
		if known[addr] && !members || addr == g.own {
			continue
		}
		tasks.Go(func() error { // one that does not answer must not hold up the others
			if g.ask(addr) {
				answered.Store(true)
			}
			return nil
		})
	}
	_ = tasks.Wait() // none fails
	return answered.Load()
}

// joining is the key of faults of a join.
func joining(addr netip.AddrPort) string { return "join " + addr.String() }

// ask asks one, and tells whether it answered. Of one that is only known from before a wrong
// keyring alone is a fault: it may have left.
func (g *Gossip) ask(addr netip.AddrPort) bool {
	key := joining(addr)
	if _, err := g.list.Join([]string{addr.String()}); err != nil {
		if g.addrs()[addr] {
			return false // it asked meanwhile
		}
		if strings.Contains(err.Error(), noKey) || !slices.Contains(g.o.Known(), addr) {
			g.faults.Add(key, fmt.Sprintf("director at %v cannot be joined: %s", addr, reason(err)), 0)
		}
		return false
	}
	g.faults.Clear(key)
	return true
}

// reason is what memberlist says, in a line.
func reason(err error) string {
	text := strings.TrimPrefix(strings.Join(strings.Fields(err.Error()), " "), "1 error occurred: * ") // its list of one
	if strings.Contains(text, noKey) {
		return "its keyring differs from this one's"
	}
	return text
}

// targets are the addresses of Join as they are now, and the known ones, each once.
func (g *Gossip) targets(ctx context.Context) []netip.AddrPort {
	var out []netip.AddrPort
	for _, entry := range g.o.Join {
		addrs, err := resolve(ctx, entry, g.o.Bind.Port())
		key := "resolve " + entry
		if err != nil && ctx.Err() == nil {
			g.faults.Add(key, fmt.Sprintf("director at %s cannot be joined: %v", entry, err), 0)
			continue
		}
		g.faults.Clear(key)
		out = append(out, addrs...)
	}
	out = append(out, g.o.Known()...)
	slices.SortFunc(out, netip.AddrPort.Compare)
	return slices.Compact(out)
}

// resolve finds the addresses of an entry, whose port may be left out.
func resolve(ctx context.Context, entry string, port uint16) ([]netip.AddrPort, error) {
	host := strings.Trim(entry, "[]")
	if h, p, err := net.SplitHostPort(entry); err == nil {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil {
			return nil, fmt.Errorf("port %q is no number of a port", p)
		}
		host, port = h, uint16(n)
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	var out []netip.AddrPort
	for _, a := range addrs {
		out = append(out, netip.AddrPortFrom(a.Unmap(), port))
	}
	return out, nil
}

// addrs are where members are.
func (g *Gossip) addrs() map[netip.AddrPort]bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := map[netip.AddrPort]bool{}
	for _, n := range g.nodes {
		out[n.addr] = true
	}
	return out
}

// sleep sleeps, but not longer than ctx.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
