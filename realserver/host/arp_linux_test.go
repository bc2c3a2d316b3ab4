package host

import (
	"net"
	"net/netip"
	"slices"
	"testing"
)

// Frames of the wire are anybody's.
func FuzzAnswer(f *testing.F) {
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	for _, a := range []netip.Addr{vip4, vip6} {
		frame, _, err := question(a, netip.MustParseAddr("2001:db8::1"), mac)
		if a.Is4() {
			frame, _, err = question(a, netip.Addr{}, mac)
		}
		must(f, err)
		f.Add(slices.Clone(frame))
		frame[21] = 2 // a reply, in ARP
		f.Add(slices.Clone(frame))
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		for _, a := range []netip.Addr{vip4, vip6} {
			if mac := answer(frame, a); mac != nil && len(frame) < 14 {
				t.Errorf("%x says %v has %v", frame, mac, a)
			}
		}
	})
}
