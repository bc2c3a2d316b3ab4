package drills

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"tunneldirector/director/drill"
	"tunneldirector/integration/lab"
)

// befall makes a fault. Where it failed, and may be there in part, there is an undo, too.
func (w *World) befall(ctx context.Context, f drill.Fault) (undo, error) {
	switch f.Kind.Befalls() {
	case "real server":
		i := slices.IndexFunc(w.lab.RealServers, func(rs *lab.RealServer) bool { return rs.Name == f.Target })
		if i < 0 {
			return nil, fmt.Errorf("the lab has no real server %q", f.Target)
		}
		return w.befallRealServer(ctx, f.Kind, w.lab.RealServers[i])
	case "director":
		i := slices.IndexFunc(w.directors, func(d *director) bool { return d.On().Title == f.Target })
		if i < 0 {
			return nil, fmt.Errorf("the lab has no director %q", f.Target)
		}
		return w.befallDirector(ctx, f.Kind, w.directors[i])
	case "cluster":
		return w.sendEmpty(ctx)
	}
	return nil, errors.New("there is no such fault")
}

func (w *World) befallRealServer(ctx context.Context, k drill.Kind, rs *lab.RealServer) (undo, error) {
	switch k {
	case drill.TerminatorCrash:
		rs.KillTerminator()
		return func(context.Context) error { return rs.StartTerminator() }, nil
	case drill.TerminatorHang:
		rs.HangTerminator()
		return func(context.Context) error { rs.ResumeTerminator(); return nil }, nil
	case drill.HostLoss:
		return w.pull(rs.DR, rs.Inner)
	case drill.LinkCut:
		var c cuts
		return c.mend, c.add(w.lab.Lose(rs.DR, w.lab.VIPs...))
	case drill.Drain:
		return w.drain(ctx, rs.Name)
	}
	return nil, fmt.Errorf("not a fault of a real server in a lab: %s", k)
}

// pull pulls cables; undone, they are in again.
func (w *World) pull(ports ...lab.Port) (undo, error) {
	set := func(up bool) error {
		var errs []error
		for _, p := range ports {
			errs = append(errs, w.lab.SetCable(p, up))
		}
		return errors.Join(errs...)
	}
	if err := set(false); err != nil {
		return nil, errors.Join(err, set(true))
	}
	return func(context.Context) error { return set(true) }, nil
}

// cuts are what packets are lost by, until they are mended.
type cuts []func() error

// add takes one in as the lab makes it.
func (c *cuts) add(lift func() error, err error) error {
	if err == nil {
		*c = append(*c, lift)
	}
	return err
}

func (c *cuts) mend(context.Context) error {
	for len(*c) > 0 {
		if err := (*c)[0](); err != nil {
			return err
		}
		*c = (*c)[1:]
	}
	return nil
}
