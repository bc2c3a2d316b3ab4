package vip

import (
	"context"
	"errors"
	"fmt"

	"tunneldirector/director/vip/ruleset"
)

// A Filter is the packet filter in the network namespace of the thread that opened it.
type Filter struct {
	table *ruleset.Keeper
}

// OpenFilter connects to nftables. It changes nothing.
func OpenFilter() (*Filter, error) {
	k, err := ruleset.Open(structure())
	if err != nil {
		return nil, fmt.Errorf("open packet filter: %w", err)
	}
	return &Filter{k}, nil
}

// Close lets go of the socket. The filter stays.
func (f *Filter) Close() error { return f.table.Close() }

// Set makes the filter close exactly w, in one transaction of the kernel: by difference if the table is as it should be,
// else (absent, altered, of an older program) by making it anew. On an error nothing has changed. It is idempotent and
// cheap, and so is the way to find out that somebody flushed the ruleset: call it every few seconds.
func (f *Filter) Set(ctx context.Context, w Wanted) (Changes, error) {
	if err := errors.Join(ctx.Err(), w.validate()); err != nil {
		return Changes{}, fmt.Errorf("set packet filter: %w", err)
	}
	ch, err := f.table.Keep(ctx, w.elements())
	if err != nil {
		return Changes{}, fmt.Errorf("set packet filter: %w", err)
	}
	return Changes{Built: ch.Built, FilterAdded: ch.Added, FilterRemoved: ch.Removed}, nil
}

// Dropped are counters since the table was made; they survive the daemon.
type Dropped struct {
	Input   uint64 // to a VIP, at the node's own input
	Forward uint64 // to a VIP that was not local
	Cover   uint64 // from a subnet interface into a covering prefix, past the data plane
}

// Dropped reads the counters, in packets.
func (f *Filter) Dropped() (Dropped, error) {
	c, err := f.table.Counters()
	return Dropped{c[counterInput].Packets, c[counterFwd].Packets, c[counterCover].Packets}, err
}

// Remove deletes the table: for uninstalling. Absent is well.
func (f *Filter) Remove() error { return f.table.Remove() }
