package drills

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"syscall"
	"time"

	"tunneldirector/director/drill"
	"tunneldirector/integration/lab"
)

// starting is how long a director is watched that is started again: one that ends at once could not be started. It need not be ready by
// then, which State tells.
const starting = 5 * time.Second

func (w *World) befallDirector(ctx context.Context, k drill.Kind, d *director) (undo, error) {
	switch k {
	case drill.DirectorCrash:
		return d.back, d.does(d.Kill)
	case drill.DirectorHang:
		return d.goOn, d.does(func() error { return d.Signal(syscall.SIGSTOP) })
	case drill.DirectorRestart:
		return d.back, d.again(ctx)
	case drill.VIPMove:
		if _, err := d.Client.LeaveCluster(ctx); err != nil {
			return d.again, refusal(err) // it may have left all the same
		}
		return d.back, d.does(d.Stop)
	case drill.Partition:
		return w.part(d)
	case drill.DiskFull:
		return func(context.Context) error { return d.disk.empty() }, d.disk.fill()
	case drill.NMSOutage:
		return d.show, d.hide()
	}
	return nil, fmt.Errorf("not a fault of a director in a lab: %s", k)
}

// does starts, stops or signals the daemon.
func (d *director) does(act func() error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return act()
}

// goOn lets a stopped daemon go on; one that has ended needs it no more.
func (d *director) goOn(context.Context) error {
	return d.does(func() error {
		if !d.Running() {
			return nil
		}
		return d.Signal(syscall.SIGCONT)
	})
}

// again stops the daemon as a service is, and starts it.
func (d *director) again(ctx context.Context) error {
	return errors.Join(d.does(d.Stop), d.back(ctx))
}

// back starts the daemon if it does not run.
func (d *director) back(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.Running() {
		if err := d.Launch(); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, starting)
	defer cancel()
	if err := d.Ready(ctx); err != nil && !d.Running() {
		return err
	}
	return nil
}

// part loses all that directors send between one and the others, on each network that they share.
func (w *World) part(one *director) (undo, error) {
	var c cuts
	for _, other := range w.lab.Directors {
		if other == one.On() {
			continue
		}
		for _, pair := range [][2]*lab.Director{{one.On(), other}, {other, one.On()}} {
			from, to := pair[0], pair[1]
			for _, way := range []struct {
				port lab.Port
				to   []netip.Addr
			}{{from.Mgmt, to.Mgmt.Addrs}, {from.RS, to.RS.Addrs}, {from.Inner, to.Inner.Addrs}, {from.Sites, to.Sites.Addrs}} {
				if err := c.add(w.lab.Block(way.port, way.to...)); err != nil {
					return nil, errors.Join(err, c.mend(context.Background()))
				}
			}
		}
	}
	return c.mend, nil
}

// hide moves the socket of the API away: whoever pushes finds nobody there. Connections that are open stay.
func (d *director) hide() error { return os.Rename(d.Socket(), d.Socket()+".away") }

// show moves it back, unless the director has been started again meanwhile, and has made another one.
func (d *director) show(context.Context) error {
	_, err := os.Stat(d.Socket())
	if err == nil {
		err = os.Remove(d.Socket() + ".away")
	} else {
		err = os.Rename(d.Socket()+".away", d.Socket())
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it never was away
	}
	return err
}
