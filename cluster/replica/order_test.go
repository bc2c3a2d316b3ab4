package replica

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"tunneldirector/affinity"
)

// orderly notes tunnels that came in a Merge of their own, before their pins, and records that came after what is behind them.
type orderly struct {
	*desk
	bare, late int
}

func (o *orderly) Merge(ctx context.Context, from string, records []affinity.Change) error {
	err := o.desk.Merge(ctx, from, records)
	t := o.Table()
	for i, c := range records {
		if i > 0 && slices.Index(order, c.Kind) < slices.Index(order, records[i-1].Kind) {
			o.late++
		}
		if c.Kind == affinity.KindTunnel {
			if tun, ok := t.Tunnel(c.Key); ok {
				if _, placed := t.PinOf(tun); !placed {
					o.bare++
				}
			}
		}
	}
	return err
}

// TestOrderOfARound: what was pushed and placed while a director was out of reach comes to it placed, though it is found in many places.
func TestOrderOfARound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 60_000
		a, b := newDesk("d1"), newDesk("d2")
		both := func(d *desk, from, to int) ([]affinity.Change, uint64) {
			return d.write(func(tab *affinity.Table, h func() affinity.Header) {
				for i := from; i < to; i++ {
					tun := tunnelOf(h(), i)
					tab.PutTunnel(tun)
					p := affinity.Pin{Header: h(), Group: tun.GroupID(), Primary: 1, Why: affinity.WhyPlaced}
					p.Header.Epoch = 1
					tab.SetPin(p)
				}
			})
		}
		log, _ := both(b, 0, n)
		if err := a.Merge(t.Context(), "d2", log); err != nil {
			t.Fatal(err)
		}
		both(b, n, n+200) // while d1 was out of reach: 200 tunnels are pushed, and placed, at d2
		w := newWorld(t)
		o := &orderly{desk: a}
		w.local = func(d *desk) Local {
			if d == a {
				return o
			}
			return d
		}
		w.start(a, 1)
		w.start(b, 1)
		w.await("equal tables", time.Minute, w.equal)
		if o.late > 0 {
			t.Errorf("%d records came before what they refer to", o.late)
		}
		if o.bare > 0 {
			t.Errorf("%d of 200 tunnels were merged before their pins", o.bare)
		}
	})
}
