package drills

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"tunneldirector/integration/daemon"
	"tunneldirector/integration/lab"
)

// prepare configures a real server's agent, and lets it make the host right.
func (w *World) prepare(l *lab.Lab, rs *lab.RealServer) error {
	a, err := daemon.NewAgent(l, rs, w.authority, daemon.AgentOptions{
		Binary: w.o.RealServer, Dir: w.o.Dir, Log: daemon.Named(w.o.Log, rs.Name),
	})
	if err != nil {
		return err
	}
	w.agents = append(w.agents, a)
	_, err = a.Command("apply", "--config", a.Config())
	return err
}

// startDirectors starts all at once, and waits until all are ready.
func (w *World) startDirectors(ctx context.Context) error {
	for _, on := range w.lab.Directors {
		d, err := w.configure(on)
		if err != nil {
			return err
		}
		w.directors = append(w.directors, d)
		if err := d.Launch(); err != nil {
			return err
		}
	}
	for _, d := range w.directors {
		if err := d.Ready(ctx); err != nil {
			return fmt.Errorf("wait until %s is ready: %w", d.On().Title, err)
		}
	}
	return nil
}

// configure writes a director's files.
func (w *World) configure(on *lab.Director) (*director, error) {
	dir := filepath.Join(w.o.Dir, on.Title)
	d := &director{disk: disk(filepath.Join(dir, "disk"))}
	if err := os.MkdirAll(string(d.disk), 0o755); err != nil {
		return nil, fmt.Errorf("make the directory of %s: %w", on.Title, err)
	}
	if err := d.disk.mount(); err != nil {
		return nil, err
	}
	w.release = append(w.release, d.disk.unmount)
	settings, err := w.authority.Member(w.lab, on, daemon.Membership{More: fmt.Sprintf("  preempt_after: %v\n", preempt)})
	if err != nil {
		return nil, fmt.Errorf("certify %s: %w", on.Title, err)
	}
	d.Daemon, err = daemon.New(w.lab, daemon.Options{
		On: on, Binary: w.o.Director, Dir: dir, Data: filepath.Join(string(d.disk), "data"), Log: daemon.Named(w.o.Log, on.Title), Settings: settings,
	})
	return d, err
}

// startTunnels applies the records by the first director, pushes each tunnel by another one, as an NMS may, and brings all up.
func (w *World) startTunnels(ctx context.Context) error {
	if err := w.directors[0].Apply(ctx); err != nil {
		return err
	}
	for _, a := range w.agents {
		if err := a.Start(); err != nil {
			return err
		}
	}
	for _, d := range w.directors {
		if err := d.Until(ctx, func() error { return daemon.Equal(ctx, w.daemons()...) }); err != nil {
			return err
		}
		if err := d.Heard(ctx, 0, w.lab.RealServers...); err != nil {
			return err
		}
	}
	if err := w.push(ctx); err != nil {
		return err
	}
	if err := w.lab.Establish(ctx); err != nil {
		return err
	}
	var all errgroup.Group
	for _, d := range w.directors {
		all.Go(func() error { return d.Heard(ctx, len(w.lab.Sites), w.lab.RealServers...) })
	}
	return all.Wait()
}

func (w *World) daemons() (list []*daemon.Daemon) {
	for _, d := range w.directors {
		list = append(list, d.Daemon)
	}
	return list
}

// push makes all tunnels known: those of sites, and some that are down.
func (w *World) push(ctx context.Context) error {
	for i, s := range w.lab.Sites {
		if err := w.directors[i%len(w.directors)].Push(ctx, s); err != nil {
			return err
		}
	}
	for i := range quiet {
		if _, err := w.directors[i%len(w.directors)].Client.PutTunnel(ctx, daemon.Filler(i)); err != nil {
			return fmt.Errorf("push a quiet tunnel: %w", err)
		}
	}
	return nil
}
