package vip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// A Holder keeps VIPs as local addresses behind a Filter.
type Holder struct {
	cfg    Config
	filter *Filter
	rtnl   *rtnl
	log    *slog.Logger
}

// OpenHolder prepares to hold addresses in the network namespace of the calling thread. It changes nothing. The filter stays
// the caller's to close.
func OpenHolder(cfg Config, filter *Filter, log *slog.Logger) (*Holder, error) {
	if len(cfg.Tunnel) == 0 {
		return nil, errors.New("open holder of virtual IPs: no interface of role tunnel is given; IPv6 VIPs and announcements need one")
	}
	r, err := openRtnl()
	if err != nil {
		return nil, fmt.Errorf("open holder of virtual IPs: %w", err)
	}
	return &Holder{cfg: cfg, filter: filter, rtnl: r, log: log}, nil
}

// Close lets go of the sockets. Addresses and filter stay.
func (h *Holder) Close() error { return h.rtnl.conn.Close() }

// Hold makes the filter close w.VIPs and held, and makes exactly held local addresses, those of ours that were there before
// included. Order: filter, new addresses, their announcement, stale addresses gone, and only then what the filter needs no
// more. If the filter cannot be set, no address is added. A VIP that cannot be held does not stop the others; its error names
// it. Hold is idempotent and repairs: call it every few seconds and whenever an interface comes up. The Changes are true on
// error too.
func (h *Holder) Hold(ctx context.Context, w Wanted, held []netip.Addr) (Changes, error) {
	var errs []error
	for _, a := range held {
		if err := validVIP(a); err != nil {
			return Changes{}, fmt.Errorf("hold: %w", err)
		}
	}
	all, err := h.rtnl.addresses()
	if err != nil {
		return Changes{}, fmt.Errorf("hold virtual IPs: %w", err)
	}
	ours, foreign := split(all, union(w.VIPs, held))
	var refused []netip.Addr
	for _, a := range foreign {
		// One that we hold stays closed, whoever adds it a second time.
		if addr := a.prefix.Addr(); !slices.Contains(addrsOf(ours), addr) {
			refused = append(refused, addr)
		}
		errs = append(errs, fmt.Errorf("hold virtual IP %v: it is on interface %s already, put there by somebody else; remove it there, or choose another VIP",
			a.prefix.Addr(), ifname(a.index)))
	}
	held, w.VIPs = without(held, refused), without(w.VIPs, refused)

	wide := w
	wide.VIPs = union(w.VIPs, held, addrsOf(ours))
	ch, err := h.filter.Set(ctx, wide)
	if err != nil {
		return ch, errors.Join(append(errs, err)...)
	}
	left, addrErrs := h.place(ctx, &ch, ours, held)
	errs = append(errs, addrErrs...)

	w.VIPs = union(w.VIPs, held, left)
	last, err := h.filter.Set(ctx, w)
	ch.Built = ch.Built || last.Built
	ch.FilterAdded += last.FilterAdded
	ch.FilterRemoved += last.FilterRemoved
	return ch, errors.Join(append(errs, err)...)
}

// place adds, announces and removes addresses; left are those that should have gone and did not.
func (h *Holder) place(ctx context.Context, ch *Changes, ours []address, held []netip.Addr) (left []netip.Addr, errs []error) {
	want, errs := h.wanted(held)
	var fresh []netip.Addr
	for _, k := range want {
		if slices.ContainsFunc(ours, k.is) {
			continue
		}
		if err := errors.Join(ctx.Err(), h.add(k)); err != nil {
			errs = append(errs, fmt.Errorf("hold virtual IP %v on %s: %w", k.addr, k.name, err))
			continue
		}
		ch.AddressesAdded = append(ch.AddressesAdded, Address{k.addr, k.name})
		if !slices.ContainsFunc(ours, func(a address) bool { return a.prefix.Addr() == k.addr }) {
			fresh = append(fresh, k.addr)
		}
	}
	if err := h.Announce(union(fresh)); err != nil {
		h.log.Warn("announce virtual IPs", "err", err)
	}
	for _, a := range ours {
		if slices.ContainsFunc(want, func(k spot) bool { return k.is(a) }) || !h.removable(a, held, want) {
			continue
		}
		addr, name := a.prefix.Addr(), ifname(a.index)
		if err := errors.Join(ctx.Err(), h.rtnl.remove(addr, a.index)); err != nil {
			errs = append(errs, fmt.Errorf("release virtual IP %v on %s: %w", addr, name, err))
			left = append(left, addr)
			continue
		}
		ch.AddressesRemoved = append(ch.AddressesRemoved, Address{addr, name})
	}
	return left, errs
}

// removable keeps the old place of a VIP that is to move until it has a new one.
func (h *Holder) removable(a address, held []netip.Addr, want []spot) bool {
	addr := a.prefix.Addr()
	return !slices.Contains(held, addr) || slices.ContainsFunc(want, func(k spot) bool { return k.addr == addr })
}

// A spot is where a VIP is to be.
type spot struct {
	addr  netip.Addr
	index int
	name  string
}

func (s spot) is(a address) bool { return a.prefix.Addr() == s.addr && a.index == s.index }

// wanted is where each VIP is to be, and which interfaces are missing.
func (h *Holder) wanted(held []netip.Addr) (spots []spot, errs []error) {
	missing := map[string]bool{}
	for _, addr := range union(held) {
		for _, name := range h.cfg.devices(addr) {
			ifi, err := net.InterfaceByName(name)
			if err != nil {
				if !missing[name] {
					errs = append(errs, fmt.Errorf("hold virtual IPs on interface %s: %w", name, err))
				}
				missing[name] = true
				continue
			}
			spots = append(spots, spot{addr, ifi.Index, name})
		}
	}
	return spots, errs
}

// add also proves that the kernel keeps our mark: without it we would not know our own addresses again.
func (h *Holder) add(k spot) error {
	if err := h.rtnl.add(k.addr, k.index); err != nil {
		return err
	}
	all, err := h.rtnl.addresses()
	if err != nil {
		return err
	}
	if slices.ContainsFunc(all, func(a address) bool { return k.is(a) && a.protocol == Protocol }) {
		return nil
	}
	return errors.Join(errNoMark, h.rtnl.remove(k.addr, k.index))
}

// split finds the addresses with our mark, and those of vips that are on the host without it.
func split(all []address, vips []netip.Addr) (ours, foreign []address) {
	for _, a := range all {
		switch {
		case a.protocol == Protocol && a.prefix.IsSingleIP():
			ours = append(ours, a)
		case slices.Contains(vips, a.prefix.Addr()):
			foreign = append(foreign, a)
		}
	}
	return ours, foreign
}

func addrsOf(list []address) []netip.Addr {
	var out []netip.Addr
	for _, a := range list {
		out = append(out, a.prefix.Addr())
	}
	return out
}

func ifname(index int) string {
	ifi, err := net.InterfaceByIndex(index)
	if err != nil {
		return fmt.Sprintf("number %d", index)
	}
	return ifi.Name
}

// Announce tells the neighbours on the tunnel side that VIPs are here: a gratuitous ARP or an unsolicited neighbour
// advertisement on each interface. Hold does it once for what is new; repeat it where frames may be lost.
func (h *Holder) Announce(vips []netip.Addr) error {
	var errs []error
	for _, name := range h.cfg.Tunnel {
		if len(vips) == 0 {
			break
		}
		if err := announce(name, vips); err != nil && !errors.Is(err, unix.ENETDOWN) {
			errs = append(errs, fmt.Errorf("announce on interface %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}
