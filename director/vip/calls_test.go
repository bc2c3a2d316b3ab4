package vip

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// What is told of an address that is new at 0, asked every 50 ms, and of one that comes at 3 s.
func TestCalls(t *testing.T) {
	begin := time.Unix(1_700_000_000, 0)
	a, b := called{netip.MustParseAddr("192.0.2.1"), virtual, "tun0"}, called{netip.MustParseAddr("192.0.2.1"), gateway, "in0"}
	c := calls{}
	if !c.next().IsZero() || c.due(begin) != nil {
		t.Error("something is due with nothing held")
	}
	c.keep([]called{a}, begin)
	told := map[called][]string{}
	for at := time.Duration(0); at <= 130*time.Second; at += 50 * time.Millisecond {
		if at == 3*time.Second {
			c.keep([]called{a, b}, begin.Add(at))
		}
		next := c.next()
		list := c.due(begin.Add(at))
		if (len(list) > 0) != !next.After(begin.Add(at)) {
			t.Fatalf("at %v: next was said to be %v, and %v were due", at, next.Sub(begin), list)
		}
		for _, x := range list {
			told[x] = append(told[x], at.String())
		}
	}
	want := map[called][]string{
		a: {"0s", "200ms", "500ms", "1s", "2s", "5s", "10s", "20s", "40s", "1m40s"},
		b: {"3s", "3.2s", "3.5s", "4s", "5s", "8s", "13s", "23s", "43s", "1m43s"},
	}
	same := cmp.Comparer(func(x, y called) bool { return x == y })
	if diff := cmp.Diff(want, told, same); diff != "" {
		t.Error(diff)
	}
	// One given up and taken again begins anew; of an hour asleep nothing is made up for.
	later := begin.Add(time.Hour)
	c.keep([]called{b}, later)
	c.keep([]called{a, b}, later)
	if n := len(c.due(later)); n != 2 {
		t.Errorf("%d are due after an hour, want both", n)
	}
	if at := c.next(); !at.Equal(later.Add(200 * time.Millisecond)) {
		t.Errorf("next %v after that", at.Sub(later))
	}
}

// What could not be told is told later, and as often as what could; one that is begun anew is told at once.
func TestCallsPutOff(t *testing.T) {
	begin := time.Unix(1_700_000_000, 0)
	addr := netip.MustParseAddr("192.0.2.1")
	up, down := called{addr, virtual, "tun0"}, called{addr, virtual, "tun1"}
	c := calls{}
	c.keep([]called{up, down}, begin)
	told := map[called][]string{}
	for at := time.Duration(0); at <= 20*time.Second; at += 50 * time.Millisecond {
		now := begin.Add(at)
		if at == 10*time.Second {
			c.forget(addr, gateway) // another one
			c.forget(addr, virtual)
			c.keep([]called{up, down}, now)
		}
		for _, x := range c.due(now) {
			if x == down && at < 3*time.Second {
				c.putOff(x, now.Add(downAgain))
				continue
			}
			told[x] = append(told[x], at.String())
		}
	}
	again := []string{"10s", "10.2s", "10.5s", "11s", "12s", "15s", "20s"}
	want := map[called][]string{
		up:   append([]string{"0s", "200ms", "500ms", "1s", "2s", "5s"}, again...),
		down: append([]string{"3s", "3.2s", "3.5s", "4s", "5s", "8s"}, again...),
	}
	if diff := cmp.Diff(want, told, cmp.Comparer(func(x, y called) bool { return x == y })); diff != "" {
		t.Error(diff)
	}
}

func TestHeldFaults(t *testing.T) {
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	for name, tt := range map[string]struct {
		held Held
		want string
	}{
		"well":           {Held{VIPs: []netip.Addr{a}, Gateways: []netip.Addr{b}, Lifetime: 3 * time.Second}, ""},
		"for ever":       {Held{}, ""},
		"loopback":       {Held{Gateways: []netip.Addr{netip.MustParseAddr("::1")}}, "gateway ::1: not a global or private unicast address"},
		"both":           {Held{VIPs: []netip.Addr{a}, Gateways: []netip.Addr{b, a}}, "gateway 192.0.2.1: it is a virtual IP, too"},
		"short":          {Held{Lifetime: time.Second}, "lifetime 1s: not whole seconds, at least 2s"},
		"not in whole":   {Held{Lifetime: 2500 * time.Millisecond}, "lifetime 2.5s: not whole seconds"},
		"less than ever": {Held{Lifetime: -time.Second}, "lifetime -1s"},
	} {
		if err := tt.held.validate(); (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %q", name, err, tt.want)
		}
	}
}
