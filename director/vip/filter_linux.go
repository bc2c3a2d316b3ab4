package vip

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"tunneldirector/director/plane"
)

// sendBuffer lets one transaction carry a table of many covers.
const sendBuffer = 8 << 20

// elementsPerMessage keeps a netlink attribute below its 64 KiB.
const elementsPerMessage = 500

// A Filter is the packet filter in the network namespace of the thread that opened it.
type Filter struct {
	conn *nftables.Conn
}

// OpenFilter connects to nftables. It changes nothing.
func OpenFilter() (*Filter, error) {
	conn, err := nftables.New(nftables.AsLasting(), nftables.WithSockOptions(func(c *netlink.Conn) error {
		return c.SetWriteBuffer(sendBuffer)
	}))
	if err != nil {
		return nil, filterError("open packet filter", err)
	}
	f := &Filter{conn: conn}
	if _, err := f.table(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// filterError names the act, and the remedy where it is known.
func filterError(act string, err error) error {
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return fmt.Errorf("%s: %w; the process needs CAP_NET_ADMIN", act, err)
	case errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EAFNOSUPPORT):
		return fmt.Errorf("%s: %w: the kernel lacks nf_tables with family inet (%w)", act, plane.ErrUnsupported, err)
	}
	return fmt.Errorf("%s: %w", act, err)
}

// Close lets go of the socket. The filter stays.
func (f *Filter) Close() error { return f.conn.CloseLasting() }

// Set makes the filter close exactly w, in one transaction of the kernel: by difference if the table is as it should be,
// else (absent, altered, of an older program) by making it anew. On an error nothing has changed. It is idempotent and
// cheap, and so is the way to find out that somebody flushed the ruleset: call it every few seconds.
func (f *Filter) Set(ctx context.Context, w Wanted) (Changes, error) {
	if err := errors.Join(ctx.Err(), w.validate()); err != nil {
		return Changes{}, fmt.Errorf("set packet filter: %w", err)
	}
	have, err := f.read()
	if err != nil {
		return Changes{}, err
	}
	ch, err := f.queue(have, w.elements())
	if err != nil {
		return Changes{}, filterError("prepare packet filter", err)
	}
	if !ch.Any() {
		return ch, nil
	}
	if err := f.conn.Flush(); err != nil {
		return Changes{}, filterError("change packet filter inet "+TableName, err)
	}
	return ch, nil
}

// queue prepares one transaction.
func (f *Filter) queue(have *state, want map[string]elements) (Changes, error) {
	var ch Changes
	s := newStructure()
	if !have.intact {
		ch.Built = true
		have.sets = nil
		if have.table != nil {
			f.conn.DelTable(have.table)
		}
		if err := f.build(s); err != nil {
			return ch, err
		}
	}
	for _, set := range s.sets {
		add, remove := diff(have.sets[set.Name], want[set.Name])
		for part := range slices.Chunk(remove, elementsPerMessage) {
			if err := f.conn.SetDeleteElements(set, part); err != nil {
				return ch, err
			}
		}
		for part := range slices.Chunk(add, elementsPerMessage) {
			if err := f.conn.SetAddElements(set, part); err != nil {
				return ch, err
			}
		}
		ch.FilterAdded += len(add)
		ch.FilterRemoved += len(remove)
	}
	return ch, nil
}

func (f *Filter) build(s *structure) error {
	f.conn.AddTable(s.table)
	for _, name := range s.counters {
		f.conn.AddObject(&nftables.NamedObj{Table: s.table, Name: name, Type: nftables.ObjTypeCounter, Obj: &expr.Counter{}})
	}
	for _, set := range s.sets {
		if err := f.conn.AddSet(set, nil); err != nil {
			return err
		}
	}
	for _, c := range s.chains {
		f.conn.AddChain(c)
	}
	for _, r := range s.rules {
		f.conn.AddRule(r)
	}
	return nil
}

// Dropped are counters since the table was made; they survive the daemon.
type Dropped struct {
	Input   uint64 // to a VIP, at the node's own input
	Forward uint64 // to a VIP that was not local
	Cover   uint64 // from a subnet interface into a covering prefix, past the data plane
}

// Dropped reads the counters, in packets.
func (f *Filter) Dropped() (Dropped, error) {
	objs, err := f.conn.GetNamedObjects(newStructure().table)
	if err != nil {
		return Dropped{}, filterError("read counters of packet filter inet "+TableName, err)
	}
	var d Dropped
	for _, o := range objs {
		n, ok := o.(*nftables.NamedObj)
		if !ok {
			continue
		}
		c, ok := n.Obj.(*expr.Counter)
		if !ok {
			continue
		}
		switch n.Name {
		case counterInput:
			d.Input = c.Packets
		case counterFwd:
			d.Forward = c.Packets
		case counterCover:
			d.Cover = c.Packets
		}
	}
	return d, nil
}

// Remove deletes the table: for uninstalling. Absent is well.
func (f *Filter) Remove() error {
	t, err := f.table()
	if err != nil || t == nil {
		return err
	}
	f.conn.DelTable(t)
	if err := f.conn.Flush(); err != nil {
		return filterError("remove packet filter inet "+TableName, err)
	}
	return nil
}
