package strongswan

import (
	"context"
	"errors"
	"fmt"

	"tunneldirector/realserver/terminator"
)

// events are those after which the list of tunnels may be another. Not every charon knows all.
var events = []string{"ike-updown", "child-updown", "ike-rekey", "child-rekey", "ike-update"}

// Watch sends to changed at each event of charon's.
func (d *Driver) Watch(ctx context.Context, changed chan<- struct{}) error {
	err := d.watch(ctx, changed)
	d.hear(false)
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("listen to charon: %w", err)
}

func (d *Driver) watch(ctx context.Context, changed chan<- struct{}) error {
	k, err := d.dial(ctx)
	if err != nil {
		return err
	}
	defer k.close()
	some := false
	for _, name := range events {
		known, err := k.register(name)
		if err != nil {
			return err
		}
		some = some || known
	}
	if !some {
		return errors.New("it knows none of the events")
	}
	d.hear(true)
	for {
		poke(changed) // at first for what came before
		kind, _, _, err := k.receive(0)
		if err != nil {
			return fmt.Errorf("%w: %w", terminator.ErrGone, err)
		}
		if kind != event {
			return fmt.Errorf("%w: packet type %d among events", errNonsense, kind)
		}
		d.hear(true)
	}
}

// hear notes whether events come, and that the last list may be wrong.
func (d *Driver) hear(on bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.heard, d.dirty = on, true
}

func poke(changed chan<- struct{}) {
	select {
	case changed <- struct{}{}:
	default:
	}
}
