package vip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"
)

// A Holder keeps addresses local: VIPs behind a Filter, and gateways.
type Holder struct {
	cfg    Config
	filter *Filter
	rtnl   *rtnl
	log    *slog.Logger

	spots    []spot        // where the last Hold left what it was told to hold
	lifetime time.Duration // of these
	calls    calls
}

// OpenHolder prepares to hold addresses in the network namespace of the calling thread. It changes nothing. The filter stays
// the caller's to close.
func OpenHolder(cfg Config, filter *Filter, log *slog.Logger) (*Holder, error) {
	if len(cfg.Tunnel)+len(cfg.Subnet) == 0 {
		return nil, errors.New("open holder of addresses: no interface of role tunnel or subnet is given; addresses are held and announced there")
	}
	r, err := openRtnl()
	if err != nil {
		return nil, fmt.Errorf("open holder of addresses: %w", err)
	}
	return &Holder{cfg: cfg, filter: filter, rtnl: r, log: log, calls: calls{}}, nil
}

// Close lets go of the sockets. Addresses and filter stay.
func (h *Holder) Close() error { return h.rtnl.conn.Close() }

// Hold makes the filter close w.VIPs and held.VIPs, and makes exactly what is held local, addresses of ours that were there
// before included. Order: filter, new addresses, their announcement, stale addresses gone, and only then what the filter needs
// no more. If the filter cannot be set, no address is added. An address that cannot be held does not stop the others; its
// error names it. Each address gets its lifetime anew, in place. Hold is idempotent and repairs: call it every few seconds
// and whenever an interface comes up. The Changes are true on error too.
func (h *Holder) Hold(ctx context.Context, w Wanted, held Held) (Changes, error) {
	var errs []error
	if err := held.validate(); err != nil {
		return Changes{}, fmt.Errorf("hold: %w", err)
	}
	all, err := h.rtnl.addresses()
	if err != nil {
		return Changes{}, fmt.Errorf("hold addresses: %w", err)
	}
	ours, foreign := split(all, union(w.VIPs, held.VIPs, held.Gateways))
	var refused []netip.Addr
	for _, a := range foreign {
		addr, k := a.prefix.Addr(), virtual
		if slices.Contains(held.Gateways, addr) {
			k = gateway
		}
		// One that we hold stays held and closed, whoever adds it a second time.
		if !slices.Contains(addrsOf(ours), addr) {
			refused = append(refused, addr)
		}
		errs = append(errs, fmt.Errorf("hold %v %v: it is on interface %s already, put there by somebody else; remove it there, or choose another %v",
			k, addr, ifname(a.index), k))
	}
	w.VIPs = without(w.VIPs, refused)
	held.VIPs, held.Gateways = without(held.VIPs, refused), without(held.Gateways, refused)

	wide := w
	wide.VIPs = union(w.VIPs, held.VIPs, addrsOf(slices.DeleteFunc(slices.Clone(ours), func(a address) bool { return a.protocol != Protocol })))
	ch, err := h.filter.Set(ctx, wide)
	if err != nil {
		return ch, errors.Join(append(errs, err)...)
	}
	left, addrErrs := h.place(ctx, &ch, all, ours, held)
	errs = append(errs, addrErrs...)

	w.VIPs = union(w.VIPs, held.VIPs, left)
	last, err := h.filter.Set(ctx, w)
	ch.Built = ch.Built || last.Built
	ch.FilterAdded += last.FilterAdded
	ch.FilterRemoved += last.FilterRemoved
	return ch, errors.Join(append(errs, err)...)
}

// place adds, announces and removes addresses; left are VIPs that stay here though they are not wanted.
func (h *Holder) place(ctx context.Context, ch *Changes, all, ours []address, held Held) (left []netip.Addr, errs []error) {
	want, errs := h.wanted(all, held)
	h.spots, h.lifetime = nil, held.Lifetime
	for _, k := range want {
		added, err := h.see(ctx, k, ours)
		if err != nil {
			errs = append(errs, fmt.Errorf("hold %v %v on %s: %w", k.kind, k.addr, k.name, err))
			continue
		}
		h.spots = append(h.spots, k)
		if added {
			h.calls.forget(k.addr, k.kind)
			ch.AddressesAdded = append(ch.AddressesAdded, Address{k.addr, k.name})
		}
	}
	for _, a := range held.Again {
		h.calls.forget(a, virtual)
		h.calls.forget(a, gateway)
	}
	h.calls.keep(h.told(held.Silent), time.Now())
	if _, err := h.Repeat(time.Now()); err != nil {
		h.log.Warn("announce held addresses", "err", err)
	}
	for _, a := range ours {
		if slices.ContainsFunc(want, func(k spot) bool { return k.at(a) }) || !h.removable(a, held, want) {
			continue
		}
		addr, name, stays := a.prefix.Addr(), ifname(a.index), held.Keep
		if !held.Keep {
			if err := errors.Join(ctx.Err(), h.rtnl.remove(addr, a.index)); err != nil {
				errs = append(errs, fmt.Errorf("release %v %v on %s: %w", kind(a.protocol), addr, name, err))
				stays = true
			}
		}
		switch {
		case !stays:
			ch.AddressesRemoved = append(ch.AddressesRemoved, Address{addr, name})
		case a.protocol == Protocol:
			left = append(left, addr)
		}
	}
	return left, errs
}

// see sees to one address: it is there with the wanted mark and lifetime when this returns without an error.
func (h *Holder) see(ctx context.Context, k spot, ours []address) (added bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	i := slices.IndexFunc(ours, k.at)
	switch {
	case i < 0:
		return true, h.add(k)
	case kind(ours[i].protocol) != k.kind: // not every kernel changes a mark in place
		if err := h.rtnl.remove(k.addr, k.index); err != nil {
			return false, err
		}
		return true, h.add(k)
	case h.lifetime > 0 || ours[i].finite:
		return false, h.rtnl.renew(k, h.lifetime)
	}
	return false, nil
}

// removable keeps the old place of an address that is to move until it has a new one.
func (h *Holder) removable(a address, held Held, want []spot) bool {
	addr := a.prefix.Addr()
	return !slices.Contains(held.of(kind(a.protocol)), addr) || slices.ContainsFunc(want, func(k spot) bool { return k.addr == addr })
}

// add also proves that the kernel keeps our mark: without it we would not know our own addresses again.
func (h *Holder) add(k spot) error {
	if err := h.rtnl.add(k, h.lifetime); err != nil {
		return err
	}
	all, err := h.rtnl.addresses()
	if err != nil {
		return err
	}
	if slices.ContainsFunc(all, k.is) {
		return nil
	}
	return errors.Join(errNoMark, h.rtnl.remove(k.addr, k.index))
}
