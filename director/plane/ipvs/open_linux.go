package ipvs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tunneldirector/director/plane"
	"tunneldirector/director/plane/ipvs/conntab"
	"tunneldirector/director/plane/ipvs/gate"
	"tunneldirector/director/plane/ipvs/inject"
	"tunneldirector/director/plane/ipvs/route"
)

// Probe tells whether this machine can run the plane: nil, or an error that wraps plane.ErrUnsupported and says what is missing.
func Probe() error {
	if _, err := netlink.GenlFamilyGet("IPVS"); err != nil {
		return fmt.Errorf("%w: the kernel has no IPVS (module ip_vs): %w", plane.ErrUnsupported, err)
	}
	t, err := route.Open()
	if err != nil {
		return err
	}
	g, err := gate.Open()
	if err != nil {
		return errors.Join(err, t.Close())
	}
	return errors.Join(t.Close(), g.Close())
}

// Open opens the plane in the network namespace of the calling thread. It makes the sealed link to IPVS, and changes nothing that
// forwards; what an earlier run left goes on forwarding until Replace.
func Open(o Options) (*Plane, error) {
	o, err := o.complete()
	if err != nil {
		return nil, fmt.Errorf("open plane ipvs: %w", err)
	}
	if err := Probe(); err != nil {
		return nil, fmt.Errorf("open plane ipvs: %w", err)
	}
	k, err := openParts(o)
	if err != nil {
		return nil, fmt.Errorf("open plane ipvs: %w", err)
	}
	p := newPlane(o, k, time.Now)
	p.listen() // what is dropped from now on waits for who asks
	return p, nil
}

func openParts(o Options) (k parts, err error) {
	var opened []interface{ Close() error }
	defer func() {
		for _, c := range opened {
			if err != nil {
				err = errors.Join(err, c.Close())
			}
		}
	}()
	g, err := gate.Open()
	if err != nil {
		return k, err
	}
	opened = append(opened, g)
	l, err := openLVS()
	if err != nil {
		return k, err
	}
	opened = append(opened, l)
	t, err := route.Open()
	if err != nil {
		return k, err
	}
	opened = append(opened, t)
	s, err := openLand(o.Interfaces)
	if err != nil {
		return k, err
	}
	opened = append(opened, s)
	w, err := gate.OpenLog()
	if err != nil {
		return k, err
	}
	opened = append(opened, w)
	reopen := func() (injector, error) {
		return inject.Open(inject.Options{Logger: o.Logger, Seal: func(name string) error { return g.Seal(context.Background(), name) }})
	}
	link, err := reopen()
	if err != nil {
		return k, err
	}
	return parts{inject: link, lvs: l, routes: t, gate: g, log: w, survey: s, conns: conntab.Read, reopen: reopen}, nil
}

// Uninstall takes everything of ours out of the kernel, in the network namespace of the calling thread: services, rules, routes, nexthop
// objects, the gate. What is not there is no error.
// While services are left the rest stays: by it the next attempt finds that there is something.
func Uninstall(ctx context.Context) error {
	if err := uninstallServices(); err != nil {
		return err
	}
	return errors.Join(uninstallRoutes(ctx), uninstallGate())
}

func uninstallServices() error {
	if _, err := netlink.GenlFamilyGet("IPVS"); errors.Is(err, unix.ENOENT) {
		return nil // no IPVS, nothing in it
	}
	l, err := openLVS()
	if err != nil {
		return fmt.Errorf("uninstall plane ipvs: %w", err)
	}
	defer l.Close()
	list, err := l.Read()
	if err != nil {
		return fmt.Errorf("uninstall plane ipvs: read services: %w", err)
	}
	var errs []error
	for _, v := range list {
		if v.ours {
			errs = append(errs, l.Change(change{act: cutService, key: v.key}))
		}
	}
	return errors.Join(errs...)
}

func uninstallRoutes(ctx context.Context) error {
	t, err := route.Open()
	if errors.Is(err, plane.ErrUnsupported) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("uninstall plane ipvs: %w", err)
	}
	return errors.Join(t.Uninstall(ctx), t.Close())
}

func uninstallGate() error {
	g, err := gate.Open()
	if errors.Is(err, plane.ErrUnsupported) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("uninstall plane ipvs: %w", err)
	}
	return errors.Join(g.Remove(), g.Close())
}
