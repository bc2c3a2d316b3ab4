package director

import (
	"context"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"time"

	"tunneldirector/affinity"
	"tunneldirector/director/api"
	"tunneldirector/director/plane"
)

// replaceRest is how long the director waits before it programs a plane whole again that refused.
const replaceRest = 2 * time.Second

// refreshHost reads the host's addresses.
func (d *Director) refreshHost() error {
	own, connected, err := d.o.Host.Local(d.work.VIPs())
	if err != nil {
		return fmt.Errorf("read the host's addresses: %w", err)
	}
	reserved := slices.Clone(connected)
	for _, a := range own {
		reserved = append(reserved, netip.PrefixFrom(a, a.BitLen()))
	}
	slices.SortFunc(reserved, netip.Prefix.Compare)
	slices.SortFunc(own, netip.Addr.Compare)
	reserved = slices.Compact(reserved)
	d.local = local{own, reserved}
	d.reserved.Store(&reserved)
	return nil
}

// program brings the plane up to the published table at the keys that changed.
func (d *Director) program(ctx context.Context, dirty affinity.Dirty) {
	if d.planeErr != nil {
		return // a whole replacement is due, and serves this too
	}
	var u plane.Update
	if dirty.Config {
		c := d.planeConfig()
		u.Config = &c
	}
	u.Entries = make([]plane.Entry, 0, len(dirty.Endpoints)+len(dirty.Subnets))
	once(dirty.Endpoints, func(k affinity.EndpointKey) { u.Entries = append(u.Entries, d.endpointEntry(k)) })
	once(dirty.Subnets, func(k affinity.SubnetKey) { u.Entries = append(u.Entries, d.subnetEntry(k)) })
	if u.Config == nil && len(u.Entries) == 0 {
		return
	}
	switch err := d.o.Plane.Apply(ctx, u); {
	case err != nil && ctx.Err() != nil:
		d.planeLacks(err) // told to stop meanwhile, which is no fault: the next start makes up for it
	case err != nil:
		d.planeFailed(fmt.Errorf("program %d entries: %w", len(u.Entries), err))
	}
}

// once calls f for each key, once.
func once[K comparable](keys []K, f func(K)) {
	seen := make(map[K]struct{}, len(keys))
	for _, k := range keys {
		if _, again := seen[k]; !again {
			seen[k] = struct{}{}
			f(k)
		}
	}
}

func (d *Director) endpointEntry(k affinity.EndpointKey) plane.Entry {
	h, ok := d.work.AtEndpoint(k)
	switch {
	case !ok:
		return plane.Entry{Endpoint: k, Delete: true}
	case h.PortsOnly:
		return plane.Entry{Endpoint: k, Target: plane.Target{Drop: plane.DropNoPort}}
	}
	return plane.Entry{Endpoint: k, Target: target(h.Pin.Primary, h.Pin.Backup)}
}

func (d *Director) subnetEntry(k affinity.SubnetKey) plane.Entry {
	h, ok := d.work.AtSubnet(k)
	if !ok {
		return plane.Entry{Subnet: k, Delete: true}
	}
	return plane.Entry{Subnet: k, Target: target(h.Pin.Primary, h.Pin.Backup)}
}

// target is a pin as the plane needs it.
func target(primary, backup affinity.Index) plane.Target {
	if primary == 0 {
		return plane.Target{Drop: plane.DropUnplaced}
	}
	return plane.Target{Primary: primary, Backup: backup}
}

// replacePlane makes the plane hold the whole table.
func (d *Director) replacePlane(ctx context.Context) error {
	began := d.o.Now()
	if err := d.o.Plane.Replace(ctx, d.planeConfig(), d.entries()); err != nil {
		return err
	}
	d.planeErr = nil
	d.note(func(h *health) { h.planeErr = "" })
	d.tell(api.Event{Kind: "plane", Object: d.o.PlaneKind, Why: "holds the whole table"})
	d.o.Log.Info("data plane holds the table", "plane", d.o.PlaneKind, "seconds", d.o.Now().Sub(began).Seconds())
	return nil
}

// supplant takes out what another plane has left, when this one does its work. It is tried again until that is done.
func (d *Director) supplant(ctx context.Context) {
	h := d.health.Load()
	if d.alone || d.o.Supplant == nil || h.planeErr != "" || h.holdErr != "" {
		return
	}
	was, err := d.o.Supplant(ctx)
	said := ""
	switch {
	case err != nil && ctx.Err() != nil:
		return // told to stop meanwhile: the next start does it
	case err != nil:
		said = err.Error()
	}
	if said != "" && said != h.otherErr {
		d.o.Log.Error("take out what another plane has left", "error", said)
	}
	d.alone = err == nil
	d.note(func(h *health) {
		h.another, h.otherErr = err != nil, said
		if was { // packets went by the other one
			h.watching = d.o.Now().Add(upWindow)
		}
	})
}

// entries are all that the plane shall hold.
func (d *Director) entries() iter.Seq[plane.Entry] {
	t := d.work
	return func(yield func(plane.Entry) bool) {
		more := true
		t.EachEndpoint(func(k affinity.EndpointKey, tunnel string, p, b affinity.Index) bool {
			e := plane.Entry{Endpoint: k, Target: target(p, b)}
			if tunnel == "" {
				e.Target = plane.Target{Drop: plane.DropNoPort}
			}
			more = yield(e)
			return more
		})
		if !more {
			return
		}
		t.EachSubnet(func(k affinity.SubnetKey, _ string, p, b affinity.Index) bool {
			return yield(plane.Entry{Subnet: k, Target: target(p, b)})
		})
	}
}

// planeFailed notes that the kernel is not as the table says; it is replaced whole, soon.
func (d *Director) planeFailed(err error) {
	d.o.Log.Error("the data plane refused; it is programmed whole again", "error", err, "in_seconds", replaceRest.Seconds())
	d.tell(api.Event{Kind: "plane", Object: d.o.PlaneKind, Why: "refused, and is programmed whole again: " + err.Error()})
	d.planeLacks(err)
}

// planeLacks has the plane replaced whole, after a rest.
func (d *Director) planeLacks(err error) {
	d.planeErr = err
	d.replaceAt = d.o.Now().Add(replaceRest)
	d.note(func(h *health) { h.planeErr = err.Error() })
}
