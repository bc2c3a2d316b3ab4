package vip

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Renew gives what the last Hold left here its lifetime anew, in place: one list of the kernel's addresses, and a message
// for each of ours. Call it every RenewEvery, while what decides to hold is alive. With a lifetime of 0 it does nothing.
//
// It never adds an address. One that has gone, or whose time is up, is lost: it is forgotten, and only a Hold brings it back.
func (h *Holder) Renew(ctx context.Context) (lost []Address, err error) {
	if h.lifetime == 0 || len(h.spots) == 0 {
		return nil, nil
	}
	before := time.Now()
	all, err := h.rtnl.addresses()
	if err != nil {
		return nil, fmt.Errorf("renew held addresses: %w", err)
	}
	return h.renew(ctx, all, before)
}

// renew renews what is in all, which is what was there at before.
func (h *Holder) renew(ctx context.Context, all []address, before time.Time) (lost []Address, err error) {
	var errs []error
	var keep, gone []spot
	for _, k := range h.spots {
		i := slices.IndexFunc(all, k.is)
		if i < 0 || all[i].finite && all[i].left == 0 {
			gone = append(gone, k)
			continue
		}
		keep = append(keep, k)
		if err := errors.Join(ctx.Err(), h.rtnl.renew(k, h.lifetime)); err != nil {
			errs = append(errs, fmt.Errorf("renew %v %v on %s: %w", k.kind, k.addr, k.name, err))
		}
	}
	late, err := h.revived(keep, all, before)
	errs = append(errs, err)
	h.spots = slices.DeleteFunc(keep, func(k spot) bool { return slices.Contains(late, k) })
	for _, k := range append(gone, late...) {
		lost = append(lost, Address{k.addr, k.name})
		h.calls.forget(k.addr, k.kind)
	}
	return lost, errors.Join(errs...)
}

// stalled is how long a renewal may take until it is doubted.
const stalled = 100 * time.Millisecond

// revived takes back what a renewal has brought into being: the process was stopped after it had seen an address, and went on
// when the address was gone. Such a one is younger than it was.
func (h *Holder) revived(keep []spot, all []address, before time.Time) (late []spot, err error) {
	if time.Since(before) < stalled {
		return nil, nil
	}
	now, err := h.rtnl.addresses()
	if err != nil {
		return nil, fmt.Errorf("renew held addresses: %w", err)
	}
	var errs []error
	for _, k := range keep {
		was, is := slices.IndexFunc(all, k.is), slices.IndexFunc(now, k.is)
		if is < 0 || all[was].created == now[is].created {
			continue
		}
		late = append(late, k)
		if err := h.rtnl.remove(k.addr, k.index); err != nil {
			errs = append(errs, fmt.Errorf("release %v %v on %s: %w", k.kind, k.addr, k.name, err))
		}
	}
	return late, errors.Join(errs...)
}

// told are the held addresses of which neighbours are told, on each interface where they are.
func (h *Holder) told(silent bool) (list []called) {
	for _, k := range h.spots {
		if k.kind == virtual && silent {
			continue
		}
		for _, name := range h.cfg.told(k.kind) {
			list = append(list, called{k.addr, k.kind, name})
		}
	}
	return list
}

// Repeat tells neighbours of held addresses what they may have missed: a gratuitous ARP or an unsolicited neighbour
// advertisement on each interface of the address's side, at once when it is new (Hold does that), several times in the first
// seconds, and every minute while it is held; on an interface that is down, once it is up. It does what is due now, and says
// when it is to be called next; the zero time: not before the next Hold.
func (h *Holder) Repeat(now time.Time) (next time.Time, err error) {
	var errs []error
	due := h.calls.due(now)
	names := slices.Sorted(slices.Values(slices.Concat(h.cfg.Tunnel, h.cfg.Subnet)))
	for _, name := range slices.Compact(names) {
		addrs := addrsOn(due, name)
		if len(addrs) == 0 {
			continue
		}
		switch err := announce(name, addrs); {
		case errors.Is(err, unix.ENETDOWN):
			for _, x := range due {
				if x.on == name {
					h.calls.putOff(x, now.Add(downAgain))
				}
			}
		case err != nil:
			errs = append(errs, fmt.Errorf("announce on interface %s: %w", name, err))
		}
	}
	return h.calls.next(), errors.Join(errs...)
}
