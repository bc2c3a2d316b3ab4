package ruleset

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"tunneldirector/director/plane"
)

// sendBuffer lets one transaction carry a table of many elements.
const sendBuffer = 8 << 20

// elementsPerMessage keeps a netlink attribute below its 64 KiB.
const elementsPerMessage = 500

// A Keeper keeps a Table in the network namespace of the thread that opened it. Its methods may be called from any
// goroutine.
type Keeper struct {
	mu   sync.Mutex
	conn *nftables.Conn
	want *Table
}

// Open connects to nftables. It changes nothing.
func Open(t *Table) (*Keeper, error) {
	conn, err := nftables.New(nftables.AsLasting(), nftables.WithSockOptions(func(c *netlink.Conn) error {
		return c.SetWriteBuffer(sendBuffer)
	}))
	if err != nil {
		return nil, failure("open nftables", err)
	}
	k := &Keeper{conn: conn, want: t}
	if _, err := k.find(); err != nil {
		return nil, errors.Join(err, k.Close())
	}
	return k, nil
}

// failure names the act, and the remedy where it is known.
func failure(act string, err error) error {
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return fmt.Errorf("%s: %w; the process needs CAP_NET_ADMIN", act, err)
	case errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EAFNOSUPPORT):
		return fmt.Errorf("%s: %w: the kernel lacks nf_tables with family inet (%w)", act, plane.ErrUnsupported, err)
	}
	return fmt.Errorf("%s: %w", act, err)
}

// Close lets go of the socket. The table stays.
func (k *Keeper) Close() error { return k.conn.CloseLasting() }

// Changes tells what a call had to do; zero means that everything was in place already.
type Changes struct {
	Built          bool // the table was not there, or not as declared, and was made anew
	Added, Removed int  // set elements
}

// Any tells whether anything was changed.
func (c Changes) Any() bool { return c != Changes{} }

// Keep makes the table be as declared, its sets holding exactly what want says, in one transaction of the kernel. Sets that
// want does not name keep what they hold, even if the table has to be made anew. On an error nothing has changed. It is
// idempotent and cheap, and so is the way to find out that somebody flushed the ruleset: call it every few seconds.
func (k *Keeper) Keep(ctx context.Context, want map[string]Elements) (Changes, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return Changes{}, failure("keep nftables table inet "+k.want.table.Name, err)
	}
	have, err := k.read()
	if err != nil {
		return Changes{}, err
	}
	ch, err := k.queue(have, want)
	if err != nil {
		return Changes{}, failure("prepare nftables table inet "+k.want.table.Name, err)
	}
	if !ch.Any() {
		return ch, nil
	}
	if err := k.conn.Flush(); err != nil {
		return Changes{}, failure("change nftables table inet "+k.want.table.Name, err)
	}
	return ch, nil
}

// Declare has the Keeper keep t, a table of the same name, from now on.
func (k *Keeper) Declare(t *Table) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.want = t
}

// Make makes t, a table of the same name as the Keeper's, in place of what there is by that name, in one transaction of the
// kernel, its sets holding exactly what want says; and keeps t from then on. On an error nothing has changed.
func (k *Keeper) Make(ctx context.Context, t *Table, want map[string]Elements) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	act := "make nftables table inet " + t.table.Name
	if err := ctx.Err(); err != nil {
		return failure(act, err)
	}
	there, err := k.find()
	if err != nil {
		return err
	}
	was := k.want
	k.want = t
	_, err = k.queue(&state{table: there}, want)
	if err == nil {
		err = k.conn.Flush()
	}
	if err != nil {
		k.want = was
		return failure(act, err)
	}
	return nil
}

// Holds reads the elements of one set; intact is false, and there are none, unless the whole table is as declared.
func (k *Keeper) Holds(set string) (els Elements, intact bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	have, err := k.read()
	if err != nil || !have.intact {
		return nil, false, err
	}
	return have.sets[set], true, nil
}

// queue prepares one transaction.
func (k *Keeper) queue(have *state, want map[string]Elements) (Changes, error) {
	var ch Changes
	before := have.sets
	if !have.intact {
		ch.Built = true
		before = nil
		if have.table != nil {
			k.conn.DelTable(have.table)
		}
		if err := k.build(); err != nil {
			return ch, err
		}
	}
	for _, set := range k.want.sets {
		wanted, given := want[set.Name]
		if !given {
			wanted = have.sets[set.Name]
		}
		add, remove := diff(before[set.Name], wanted)
		for part := range slices.Chunk(remove, elementsPerMessage) {
			if err := k.conn.SetDeleteElements(set, part); err != nil {
				return ch, err
			}
		}
		for part := range slices.Chunk(add, elementsPerMessage) {
			if err := k.conn.SetAddElements(set, part); err != nil {
				return ch, err
			}
		}
		ch.Added += len(add)
		ch.Removed += len(remove)
	}
	return ch, nil
}

func (k *Keeper) build() error {
	k.conn.AddTable(k.want.table)
	for _, name := range k.want.counters {
		k.conn.AddObject(&nftables.NamedObj{Table: k.want.table, Name: name, Type: nftables.ObjTypeCounter, Obj: &expr.Counter{}})
	}
	for _, set := range k.want.sets {
		if err := k.conn.AddSet(set, nil); err != nil {
			return err
		}
	}
	for _, c := range k.want.chains {
		k.conn.AddChain(c)
	}
	for _, r := range k.want.rules {
		k.conn.AddRule(r)
	}
	return nil
}

// Counters reads all named counters: since the table was made, so that they survive the daemon. There are none if the table
// is absent.
func (k *Keeper) Counters() (map[string]plane.Traffic, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	t, err := k.find()
	if err != nil || t == nil {
		return nil, err
	}
	objs, err := k.conn.GetNamedObjects(t)
	if err != nil {
		return nil, failure("read counters of nftables table inet "+t.Name, err)
	}
	out := map[string]plane.Traffic{}
	for _, o := range objs {
		if n, ok := o.(*nftables.NamedObj); ok {
			if c, ok := n.Obj.(*expr.Counter); ok {
				out[n.Name] = plane.Traffic{Packets: c.Packets, Bytes: c.Bytes}
			}
		}
	}
	return out, nil
}

// There tells whether a table of this name is there, as declared or not.
func (k *Keeper) There() (bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	t, err := k.find()
	return t != nil, err
}

// Remove deletes the table: for uninstalling. Absent is well.
func (k *Keeper) Remove() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	t, err := k.find()
	if err != nil || t == nil {
		return err
	}
	k.conn.DelTable(t)
	if err := k.conn.Flush(); err != nil {
		return failure("remove nftables table inet "+t.Name, err)
	}
	return nil
}
