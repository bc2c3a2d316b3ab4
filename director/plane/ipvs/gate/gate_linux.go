package gate

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"tunneldirector/director/plane"
	"tunneldirector/director/vip/ruleset"
)

// A Gate is the table in the network namespace of the thread that opened it. Its methods may be called from any goroutine.
type Gate struct {
	table *ruleset.Keeper
	mute  atomic.Bool // the kernel cannot log packets, and the table is without rules that do
}

// Open connects to nftables. It changes nothing. Where the kernel has none the error wraps plane.ErrUnsupported.
func Open() (*Gate, error) {
	k, err := ruleset.Open(structure(layout, shown))
	if err != nil {
		return nil, fmt.Errorf("open the gate: %w", err)
	}
	return &Gate{table: k}, nil
}

// There tells whether the table is in the kernel, as it should be or not. A kernel without nftables has none.
func There() (bool, error) {
	g, err := Open()
	if errors.Is(err, plane.ErrUnsupported) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	there, err := g.table.There()
	return there, errors.Join(err, g.Close())
}

// Close lets go of the socket. The table stays.
func (g *Gate) Close() error { return g.table.Close() }

// Seal drops everything that is sent out by an interface (and lets go of one that was sealed before); the interface need not
// be there yet. It works before the first Set, changes nothing that was Set, and is idempotent.
func (g *Gate) Seal(ctx context.Context, ifname string) error {
	if !validName(ifname) {
		return fmt.Errorf("seal interface %q: not an interface name (1 to %d bytes)", ifname, maxInterfaceName)
	}
	if _, err := g.keep(ctx, map[string]ruleset.Elements{setSealed: interfaces([]string{ifname})}); err != nil {
		return fmt.Errorf("seal interface %s: %w", ifname, err)
	}
	return nil
}

// Sealed tells whether the interface's seal is in place; it is not if somebody has altered the table. Seal restores it.
func (g *Gate) Sealed(ifname string) (bool, error) {
	have, intact, err := g.table.Holds(setSealed)
	if err != nil {
		return false, fmt.Errorf("look for the seal of interface %s: %w", ifname, err)
	}
	return intact && have.Has(ruleset.Name(ifname)), nil
}

// keep keeps the table. Where the kernel cannot log packets it keeps one that shows none: to drop them matters more.
func (g *Gate) keep(ctx context.Context, want map[string]ruleset.Elements) (ruleset.Changes, error) {
	ch, err := g.table.Keep(ctx, want)
	if errors.Is(err, unix.ENOENT) { // somebody may have taken the table out in this moment
		ch, err = g.table.Keep(ctx, want)
	}
	if errors.Is(err, unix.ENOENT) && g.mute.CompareAndSwap(false, true) {
		g.table.Declare(structure(layoutMute, nil))
		ch, err = g.table.Keep(ctx, want)
	}
	return ch, err
}

// Shows tells whether what is dropped is shown to a Log: an error that wraps plane.ErrUnsupported if the kernel was found not to be
// able to.
func (g *Gate) Shows() error {
	if g.mute.Load() {
		return fmt.Errorf("%w: the kernel lacks nft_log, nft_limit or nfnetlink_log; packets that are dropped are counted, and not shown", plane.ErrUnsupported)
	}
	return nil
}

// Set makes the gate let through exactly w, in one transaction of the kernel: by difference if the table is as it should be,
// else (absent, altered, of an older program) by making it anew; a seal that was there stays. changed tells whether there
// was anything to do. On an error nothing has changed. It is idempotent and cheap, and so is the way to find out that
// somebody flushed the ruleset: call it every few seconds (and Seal, too: if the table was deleted, the seal was).
func (g *Gate) Set(ctx context.Context, w Wanted) (changed bool, err error) {
	if err := w.validate(); err != nil {
		return false, fmt.Errorf("set the gate: %w", err)
	}
	ch, err := g.keep(ctx, w.elements())
	if err != nil {
		return false, fmt.Errorf("set the gate: %w", err)
	}
	return ch.Any(), nil
}

// Counters tells how many packets were dropped, by reason, and what was forwarded from subnet interfaces to real servers'
// interfaces: since the table was made, so that both survive the daemon.
func (g *Gate) Counters() (dropped map[plane.Reason]uint64, subnet plane.Traffic, err error) {
	c, err := g.table.Counters()
	if err != nil {
		return nil, plane.Traffic{}, fmt.Errorf("count at the gate: %w", err)
	}
	n := map[plane.Reason]uint64{}
	for _, d := range drops {
		n[d.reason] = c[d.counter].Packets
	}
	return n, c[counterSubnet], nil
}

// Remove deletes the table, the seal with it, and that of a watch: for uninstalling, after IPVS's daemon has stopped. Absent is
// well.
func (g *Gate) Remove() error {
	watch, err := openWatch()
	if err != nil {
		return errors.Join(err, g.table.Remove())
	}
	return errors.Join(watch.Remove(), watch.Close(), g.table.Remove())
}
