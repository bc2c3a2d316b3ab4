package terminator

import (
	"net/netip"
	"strings"
	"testing"

	"tunneldirector/director/agent"
)

func TestSharedNames(t *testing.T) {
	for at, want := range map[string]string{
		"203.0.113.11:4500": "sites 10.0.0.2 at 203.0.113.11:4500", "203.0.113.11:0": "sites 10.0.0.2 at 203.0.113.11",
		"[2001:db8::1]:4500": "sites 10.0.0.2 at [2001:db8::1]:4500", "[2001:db8::1]:0": "sites 10.0.0.2 at 2001:db8::1",
	} {
		got := NameAt("sites 10.0.0.2", netip.MustParseAddrPort(at))
		if got != want || SharedName(got) != "sites 10.0.0.2" {
			t.Errorf("%s: %q, of which the name is %q", at, got, SharedName(got))
		}
	}
	for _, name := range []string{"", "sites", "sites at home", "sites CN=one at two:3"} {
		if got := SharedName(name); got != name {
			t.Errorf("the name in %q is %q", name, got)
		}
	}
	if got := NameAt(strings.Repeat("ä", agent.MaxText), netip.MustParseAddrPort("203.0.113.11:4500")); len(got) > agent.MaxText {
		t.Errorf("%d bytes", len(got))
	}
}
