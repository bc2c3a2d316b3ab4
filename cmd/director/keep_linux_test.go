package main

import (
	"context"
	"log/slog"
	"net/netip"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	loop "tunneldirector/director"
	"tunneldirector/director/plane"
	"tunneldirector/integration/spaces"
)

// What is held goes when the loop hangs, and comes back only when it decides so.
func TestHangingLoopLosesAddresses(t *testing.T) {
	t.Parallel()
	s := spaces.New(t, 2)
	spaces.Wire(s[0], "tun0", s[1], "eth0")
	h, err := openHost([]plane.Interface{{Name: "tun0", Roles: plane.RoleTunnel | plane.RoleSubnet}}, nil, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer h.close()
	vip, gateway := netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("2001:db8:9::1")
	hold := func() {
		t.Helper()
		err := h.Hold(t.Context(), loop.Held{VIPs: []netip.Addr{vip}, Own: []netip.Addr{vip}, Gateways: []netip.Addr{gateway}, Lifetime: 2 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
	}
	there := func() (list []netip.Addr) {
		t.Helper()
		all, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range all {
			if a, _ := netip.AddrFromSlice(x.IP); a.Unmap() == vip || a == gateway {
				list = append(list, a.Unmap())
			}
		}
		slices.SortFunc(list, netip.Addr.Compare)
		return list
	}
	both := []netip.Addr{vip, gateway}

	var turns atomic.Bool
	turns.Store(true)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { // in the same namespace, as all threads of the daemon are
		runtime.LockOSThread()
		if err := netns.Set(s[0].NS); err != nil {
			done <- err
			return
		}
		done <- h.keep(ctx, turns.Load)
	}()
	hold()
	time.Sleep(5 * time.Second)
	if got := there(); !slices.Equal(got, both) {
		t.Errorf("while the loop turns there are %v, want %v", got, both)
	}
	if own, _, err := h.Local([]netip.Addr{vip}); err != nil || len(own) > 0 {
		t.Errorf("what is held is taken for the machine's own: %v (%v)", own, err)
	}
	turns.Store(false)
	for begin := time.Now(); len(there()) > 0; time.Sleep(20 * time.Millisecond) {
		if time.Since(begin) > 8*time.Second {
			t.Fatalf("the loop hangs, and after %v there are still %v", time.Since(begin), there())
		}
	}
	turns.Store(true)
	time.Sleep(1500 * time.Millisecond)
	if got := there(); len(got) > 0 {
		t.Errorf("came back before the loop held them: %v", got)
	}
	hold()
	if got := there(); !slices.Equal(got, both) {
		t.Errorf("held again there are %v, want %v", got, both)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
