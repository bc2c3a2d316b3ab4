package vip

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Held is what the node is to hold. It is always given whole.
type Held struct {
	VIPs     []netip.Addr // on the tunnel side, closed by the filter
	Gateways []netip.Addr // on the subnet side, the next hops of target hosts: open
	// Lifetime is how long an address stays after it was last held or renewed: whole seconds, at least MinLifetime. 0: for
	// ever.
	Lifetime time.Duration
	// Silent: all directors hold the VIPs, and routers spread packets over them by the directors' own addresses. Nobody is
	// told of a VIP. A gateway has one holder all the same, and is announced.
	Silent bool
	// Again are those of them of which neighbours are told anew, as of new ones: they may have been told otherwise.
	Again []netip.Addr
	// Keep: what is here from before and is not named stays until its lifetime is over. Who has just started does not know yet
	// what is to be held.
	Keep bool
}

// MinLifetime is twice what is between two renewals.
const MinLifetime = 2 * RenewEvery

// RenewEvery is how often Renew is to be called.
const RenewEvery = time.Second

// A kind of address is known by its mark.
type kind uint8

const (
	virtual kind = Protocol
	gateway kind = ProtocolGateway
)

func (k kind) String() string {
	if k == gateway {
		return "gateway"
	}
	return "virtual IP"
}

// validate refuses what must not be held, with all faults at once.
func (h Held) validate() error {
	var errs []error
	for _, a := range h.VIPs {
		errs = append(errs, valid(a, virtual))
	}
	for _, a := range h.Gateways {
		errs = append(errs, valid(a, gateway))
		if slices.Contains(h.VIPs, a) {
			errs = append(errs, fmt.Errorf("gateway %v: it is a virtual IP, too; an address is one or the other", a))
		}
	}
	if l := h.Lifetime; l != 0 && (l < MinLifetime || l%time.Second != 0) {
		errs = append(errs, fmt.Errorf("lifetime %v: not whole seconds, at least %v", l, MinLifetime))
	}
	return errors.Join(errs...)
}

// of are the addresses of a kind.
func (h Held) of(k kind) []netip.Addr {
	if k == gateway {
		return h.Gateways
	}
	return h.VIPs
}
