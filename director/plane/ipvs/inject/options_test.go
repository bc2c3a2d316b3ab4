package inject

import (
	"net/netip"
	"strings"
	"testing"
)

func TestOptions(t *testing.T) {
	sealed := func(string) error { return nil }
	for _, tt := range []struct {
		name, want string // "" is right
		o          Options
	}{
		{"defaults", "", Options{Seal: sealed}},
		{"all of them", "", Options{Seal: sealed, SyncID: 1, Group: netip.MustParseAddr("224.0.0.200"), Port: 1023}},
		{"no seal", "no seal", Options{}},
		{"a group that is forwarded", "224.0.0.0/24", Options{Seal: sealed, Group: netip.MustParseAddr("239.0.0.1")}},
		{"a group of IPv6", "224.0.0.0/24", Options{Seal: sealed, Group: netip.MustParseAddr("ff02::1")}},
		{"a port for anybody", "any process", Options{Seal: sealed, Port: 1024}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o, err := tt.o.complete()
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q in it", err, tt.want)
			}
			if err == nil && (o.SyncID == 0 || o.Port == 0 || !o.Group.IsValid() || o.Logger == nil) {
				t.Errorf("not complete: %+v", o)
			}
		})
	}
}
