package terminator

import (
	"net/netip"
	"testing"
)

// With two VIPs of a family it is not told which.
func TestOnlyVIP(t *testing.T) {
	vip6 := netip.MustParseAddr("2001:db8::10")
	vips := []netip.Addr{netip.MustParseAddr("192.0.2.10"), vip6, netip.MustParseAddr("192.0.2.11")}
	if got := OnlyVIP(vips, netip.MustParseAddr("203.0.113.1")); got.IsValid() {
		t.Errorf("of two VIPs: %s", got)
	}
	if got := OnlyVIP(vips, netip.MustParseAddr("2001:db8::1")); got != vip6 {
		t.Errorf("the only one: %s", got)
	}
}

func TestMatches(t *testing.T) {
	for _, tt := range []struct {
		pattern, connection string
		want                bool
	}{{"", "sites", true}, {"sites", "sites", true}, {"si*", "sites", true}, {"sites", "others", false}, {"[", "[", false}} {
		if got := Matches(tt.pattern, tt.connection); got != tt.want {
			t.Errorf("%q matches %q: %t", tt.pattern, tt.connection, got)
		}
	}
}
