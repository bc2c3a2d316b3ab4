package vip

import (
	"net/netip"
	"slices"
	"testing"
	"time"
)

// four are an address of each kind and family.
var four = Held{VIPs: []netip.Addr{vip4, vip6}, Gateways: []netip.Addr{gw4, gw6}}

func lasting(d time.Duration) Held {
	h := four
	h.Lifetime = d
	return h
}

// marked are our addresses on the machine.
func marked(t *testing.T, h *Holder) (ours []address) {
	t.Helper()
	all, err := h.rtnl.addresses()
	must(t, err)
	ours, _ = split(all, nil)
	return ours
}

// A stay is when an address was last there, and when it was first seen to be gone: it went in between.
type stay struct{ there, gone time.Duration }

// until polls until all of ours are gone, and tells how long each was there.
func until(t *testing.T, h *Holder, begin time.Time, limit time.Duration) map[netip.Addr]stay {
	t.Helper()
	stays := map[netip.Addr]stay{}
	for {
		before := time.Since(begin)
		ours := marked(t, h)
		after := time.Since(begin)
		for a, s := range stays {
			if s.gone == 0 {
				stays[a] = stay{s.there, after}
			}
		}
		for _, a := range ours {
			stays[a.prefix.Addr()] = stay{there: before}
		}
		if len(ours) == 0 {
			return stays
		}
		if time.Since(begin) > limit {
			t.Fatalf("after %v still there: %v", limit, ours)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// What is held with a lifetime is there as long as it is renewed, and goes by itself after that.
func TestLifetime(t *testing.T) {
	t.Parallel()
	_, site, target, f := filterLab(t)
	onLink(site, vip4.String()+"/32")
	onLink(site, vip6.String()+"/128")
	h := openHolder(t, f)
	w := Wanted{VIPs: four.VIPs}
	const life = 10 * time.Second // a busy machine may be late, by seconds
	if ch, err := h.Hold(t.Context(), w, lasting(life)); err != nil || len(ch.AddressesAdded) != 4 {
		t.Fatalf("changed %+v (%v), want four addresses", ch, err)
	}
	var last time.Time
	for range 12 { // for longer than that
		last = time.Now()
		if lost, err := h.Renew(t.Context()); err != nil || lost != nil {
			t.Fatalf("lost %v (%v)", lost, err)
		}
		for _, a := range marked(t, h) {
			if !a.finite || a.left < 5 || a.left > uint32(life/time.Second) {
				t.Errorf("%v has %d s to go after it was renewed, finite %v; want %v", a.prefix, a.left, a.finite, life)
			}
		}
		time.Sleep(time.Second)
	}
	for _, a := range four.VIPs {
		if !echo(site, a.String(), 10) {
			t.Errorf("%v does not answer", a)
		}
	}
	for _, a := range four.Gateways {
		if !echo(target, a.String(), 10) {
			t.Errorf("%v does not answer", a)
		}
	}
	for a, s := range until(t, h, last, 3*life) {
		t.Logf("%v with a lifetime of %v was there for %.2f s after it was last renewed", a, life, s.there.Seconds())
		if s.gone < life-time.Second || s.there > life+2*time.Second {
			t.Errorf("%v was there for %v, and gone after %v", a, s.there, s.gone)
		}
	}
}

// A lone director that becomes a member, and back: in place, and for ever is for ever.
func TestForEverAndBack(t *testing.T) {
	t.Parallel()
	_, _, _, f := filterLab(t)
	h := openHolder(t, f)
	w := Wanted{VIPs: four.VIPs}
	const life = 5 * time.Second
	created := func(finite bool) (list []uint32) {
		t.Helper()
		for _, a := range marked(t, h) {
			if a.finite != finite {
				t.Errorf("%v: finite %v, want %v", a.prefix, a.finite, finite)
			}
			list = append(list, a.created)
		}
		return list
	}
	_, err := h.Hold(t.Context(), w, four)
	must(t, err)
	first := created(false)
	time.Sleep(30 * time.Millisecond) // stamps are in hundredths
	for _, d := range []time.Duration{life, 0} {
		ch, err := h.Hold(t.Context(), w, lasting(d))
		if err != nil || ch.Any() {
			t.Errorf("to a lifetime of %v: changed %+v (%v)", d, ch, err)
		}
		if now := created(d > 0); len(now) != 4 || !slices.Equal(now, first) {
			t.Errorf("made at %v, with a lifetime of %v at %v: there was a gap", first, d, now)
		}
	}
	if lost, err := h.Renew(t.Context()); lost != nil || err != nil {
		t.Errorf("renewed what is for ever: lost %v (%v)", lost, err)
	}
	time.Sleep(life + 2*time.Second)
	if now := created(false); len(now) != 4 {
		t.Errorf("%d of 4 addresses are left", len(now))
	}
}

// A daemon that hung: what it lost comes back by Hold alone.
func TestRenewAddsNothing(t *testing.T) {
	t.Parallel()
	_, _, _, f := filterLab(t)
	h := openHolder(t, f)
	w := Wanted{VIPs: four.VIPs}
	_, err := h.Hold(t.Context(), w, lasting(MinLifetime))
	must(t, err)
	before := time.Now()
	seen, err := h.rtnl.addresses()
	must(t, err)
	spots := slices.Clone(h.spots)
	until(t, h, before, 30*time.Second)

	lost, err := h.Renew(t.Context())
	if err != nil || len(lost) != 4 || len(marked(t, h)) > 0 {
		t.Errorf("lost %v (%v), and there are %v; want four lost and none there", lost, err, marked(t, h))
	}
	if next, err := h.Repeat(time.Now().Add(time.Hour)); !next.IsZero() || err != nil {
		t.Errorf("what was lost is announced again at %v (%v)", next, err)
	}
	if lost, err := h.Renew(t.Context()); err != nil || lost != nil {
		t.Errorf("lost a second time: %v (%v)", lost, err)
	}
	// Stopped between the look and the renewal: what the renewal brought into being goes again.
	h.spots, h.lifetime = spots, time.Minute
	lost, err = h.renew(t.Context(), seen, before)
	if err != nil || len(lost) != 4 || len(marked(t, h)) > 0 || len(h.spots) > 0 {
		t.Errorf("stopped in between: lost %v (%v), and there are %v", lost, err, marked(t, h))
	}
	if ch, err := h.Hold(t.Context(), w, lasting(time.Minute)); err != nil || len(ch.AddressesAdded) != 4 {
		t.Errorf("held again: changed %+v (%v)", ch, err)
	}
	// Slow, but in time: nothing is lost.
	seen, err = h.rtnl.addresses()
	must(t, err)
	if lost, err := h.renew(t.Context(), seen, time.Now().Add(-time.Second)); err != nil || lost != nil || len(marked(t, h)) != 4 {
		t.Errorf("a slow renewal lost %v (%v)", lost, err)
	}
}

// TestKeepLeavesWhatIsThere: who has just started does not take away what its life before held, and keeps VIPs closed of which its
// table says nothing yet.
func TestKeepLeavesWhatIsThere(t *testing.T) {
	_, site, target, f := filterLab(t)
	h := openHolder(t, f)
	before := Held{VIPs: []netip.Addr{vip4}, Gateways: []netip.Addr{gw4}, Lifetime: time.Minute}
	if _, err := h.Hold(t.Context(), Wanted{VIPs: before.VIPs}, before); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		ch, err := h.Hold(t.Context(), Wanted{}, Held{Lifetime: time.Minute, Keep: true})
		if err != nil || len(ch.AddressesRemoved) != 0 || ch.FilterRemoved != 0 {
			t.Errorf("kept: %+v, %v", ch, err)
		}
		if !echo(site, vip4.String(), 10) {
			t.Error("the kept VIP does not answer")
		}
		if refused(site, vip4.String()) {
			t.Error("the kept VIP is open")
		}
		if !refused(target, gw4.String()) {
			t.Error("the kept gateway is closed")
		}
	}
	ch, err := h.Hold(t.Context(), Wanted{}, Held{Lifetime: time.Minute})
	if err != nil || len(ch.AddressesRemoved) != 2 || ch.FilterRemoved != 1 {
		t.Errorf("not kept: %+v, %v", ch, err)
	}
}
