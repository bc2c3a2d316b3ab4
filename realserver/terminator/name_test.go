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
	longest := strings.Repeat("x", MaxName)
	if got := NameAt(longest, netip.MustParseAddrPort("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535")); len(got) != agent.MaxText || SharedName(got) != longest {
		t.Errorf("the longest name is %d bytes with where it is, and %d without", len(got), len(SharedName(got)))
	}
}

func TestIsAt(t *testing.T) {
	for _, tt := range []struct {
		order, remote string
		want          bool
	}{
		{"203.0.113.1:4500", "203.0.113.1:4500", true}, {"203.0.113.1:4500", "203.0.113.1:4501", false}, {"203.0.113.1:4500", "203.0.113.2:4500", false},
		{"203.0.113.1:0", "203.0.113.1:4500", true}, {"203.0.113.1:4500", "203.0.113.1:0", true}, {"203.0.113.1:0", "203.0.113.2:0", false},
	} {
		if got := IsAt(netip.MustParseAddrPort(tt.order), netip.MustParseAddrPort(tt.remote)); got != tt.want {
			t.Errorf("%s of a session at %s: %v", tt.order, tt.remote, got)
		}
	}
}

func TestHere(t *testing.T) {
	for _, tt := range []struct{ peer, is, want string }{
		{"s x", "s x", "s x"}, {"s x at 10.0.0.1", "s x", "s x"}, {"s x at 10.0.0.1", "s x at 10.0.0.1", "s x at 10.0.0.1"},
		{"s x at 10.0.0.1 at 10.0.0.2:4500", "s x at 10.0.0.1", "s x at 10.0.0.1"},
	} {
		got := Here(tt.peer, func(name string) bool { return name == tt.is })
		if got != tt.want || !SameName(tt.peer, tt.is) || !SameName(tt.is, tt.peer) {
			t.Errorf("%s where %s is: %s", tt.peer, tt.is, got)
		}
	}
	if SameName("s x at 10.0.0.1", "s y at 10.0.0.1") || SameName("s x", "s y") {
		t.Error("two sites are taken for one")
	}
}
