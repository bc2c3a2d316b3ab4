package inject

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"tunneldirector/affinity"
)

// TestKernelRates measures, and counts what came of it: 100,000 entries made, sent again, and re-pointed.
func TestKernelRates(t *testing.T) {
	if testing.Short() {
		t.Skip("short: it makes 300,000 entries")
	}
	h := inKernel(t)
	const n = 100_000
	v4, v6 := at("198.51.100.1:500"), at("[2001:db8:1::1]:500")
	a4, b4, a6, b6 := at("10.0.0.2:7"), at("10.0.0.3:7"), at("[fd00::2]:7"), at("[fd00::3]:7")
	s4, s6 := addService(t, h, v4, a4, b4), addService(t, h, v6, a6, b6)
	l := openKernel(t, Options{})
	for _, kind := range []string{"v4", "v6", "mixed"} {
		all := make([]Conn, n)
		for i := range all {
			if kind == "v6" || kind == "mixed" && i%2 == 1 {
				client := netip.AddrFrom16([16]byte{0x20, 1, 0x0d, 0xb8, kind[0], 1, byte(i >> 16), byte(i >> 8), byte(i)})
				all[i] = Conn{netip.AddrPortFrom(client, 0), v6, a6, affinity.DR, time.Hour}
				continue
			}
			client := netip.AddrFrom4([4]byte{100, 64 + kind[0]&8<<1 + byte(i>>16), byte(i >> 8), byte(i)})
			all[i] = Conn{netip.AddrPortFrom(client, 0), v4, a4, affinity.DR, time.Hour}
		}
		for _, act := range []string{"new", "again", "re-pointed"} {
			if act == "re-pointed" {
				for i := range all {
					if all[i].Dest = b4; all[i].VIP == v6 {
						all[i].Dest = b6
					}
				}
			}
			before, drops := time.Now(), l.drops
			must(t, l.Send(t.Context(), all))
			took := time.Since(before)
			t.Logf("MEASURED inject %s %s %.0f entries/s, window %d, dropped and sent again %d", kind, act, n/took.Seconds(), l.pace.window, l.drops-drops)
		}
	}
	got := ""
	d4, err := h.GetDestinations(s4)
	must(t, err)
	d6, err := h.GetDestinations(s6)
	must(t, err)
	for _, d := range append(d4, d6...) {
		got += fmt.Sprintf("%v %d; ", d.Address, d.ActiveConnections)
	}
	t.Log(got)
}
