package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"

	loop "tunneldirector/director"
	"tunneldirector/director/plane"
	"tunneldirector/director/vip"
	"tunneldirector/director/vip/dump"
)

// host is this machine as the director's Host.
type host struct {
	interfaces []plane.Interface
	filter     *vip.Filter
	prober     *prober  // nil: links are taken for up
	routed     []string // interfaces by which the kernel's routing takes packets to subnets
	log        *slog.Logger
	gateways   []netip.Addr  // held lately: they come and go, and are no addresses of the machine's own
	fresh      chan struct{} // poked when there may be something to announce

	mu     sync.Mutex // of the loop, which holds, and the keeper, which renews
	holder *vip.Holder
}

func openHost(interfaces []plane.Interface, p *prober, log *slog.Logger) (*host, error) {
	var sides vip.Config
	for _, i := range interfaces {
		if i.Roles&plane.RoleTunnel != 0 {
			sides.Tunnel = append(sides.Tunnel, i.Name)
		}
		if i.Roles&plane.RoleSubnet != 0 {
			sides.Subnet = append(sides.Subnet, i.Name)
		}
	}
	filter, err := vip.OpenFilter()
	if err != nil {
		return nil, err
	}
	holder, err := vip.OpenHolder(sides, filter, log)
	if err != nil {
		return nil, err
	}
	return &host{interfaces: interfaces, filter: filter, holder: holder, prober: p, log: log, fresh: make(chan struct{}, 1)}, nil
}

// Local lists addresses and connected prefixes, without what is held. Link-local and loopback ones belong to no table.
func (h *host) Local(vips []netip.Addr) (own []netip.Addr, connected []netip.Prefix, err error) {
	list, err := dump.Whole(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, nil, fmt.Errorf("list addresses: %w", err)
	}
	for _, x := range list {
		a, ok := netip.AddrFromSlice(x.IP)
		bits, _ := x.Mask.Size()
		a = a.Unmap()
		if !ok || a.IsLoopback() || a.IsLinkLocalUnicast() || slices.Contains(vips, a) || slices.Contains(h.gateways, a) {
			continue
		}
		own = append(own, a)
		if p := netip.PrefixFrom(a, bits).Masked(); !p.IsSingleIP() && !slices.Contains(connected, p) {
			connected = append(connected, p)
		}
	}
	return own, connected, nil
}

// Hold makes VIPs local, behind the filter, and gateways.
func (h *host) Hold(ctx context.Context, held loop.Held) error {
	w := vip.Wanted{VIPs: held.VIPs, SubnetInterfaces: map[string][]netip.Prefix{}, Routed: h.routed}
	for _, i := range h.interfaces {
		if i.Roles&plane.RoleSubnet == 0 {
			continue
		}
		all := slices.Clone(held.Covers[i.Tenant])
		for _, tenant := range i.VLANs {
			all = append(all, held.Covers[tenant]...)
		}
		slices.SortFunc(all, netip.Prefix.Compare)
		w.SubnetInterfaces[i.Name] = slices.Compact(all)
	}
	h.gateways = held.Gateways
	h.mu.Lock()
	ch, err := h.holder.Hold(ctx, w, vip.Held{VIPs: held.Own, Gateways: held.Gateways, Lifetime: held.Lifetime, Silent: held.Silent, Again: held.Again, Keep: held.Undecided})
	h.mu.Unlock()
	if len(ch.AddressesAdded)+len(held.Again) > 0 {
		select {
		case h.fresh <- struct{}{}:
		default:
		}
	}
	if ch.Any() {
		h.log.Info("VIPs and filter set", "vips", held.Own, "gateways", held.Gateways, "added", ch.AddressesAdded, "removed", ch.AddressesRemoved, "filter_built", ch.Built)
	}
	return err
}

// LinksUp tells whether the links towards real servers are there.
func (h *host) LinksUp() bool { return h.prober == nil || h.prober.linksUp(time.Now()) }

func (h *host) close() {
	_ = h.holder.Close()
	_ = h.filter.Close()
}
