package route

import (
	"strings"
	"testing"
	"testing/fstest"
)

func TestCheck(t *testing.T) {
	for _, tt := range []struct {
		name, value string
		routes      int
		found       bool
	}{
		{"as the kernel starts", "1", 100_000, true},
		{"few routes", "1", 9_999, false},
		{"off", "0", 100_000, false},
	} {
		root := fstest.MapFS{"proc/sys/net/ipv4/nexthop_compat_mode": {Data: []byte(tt.value + "\n")}}
		found, err := Check(root, tt.routes)
		if err != nil {
			t.Fatal(err)
		}
		if (len(found) == 1) != tt.found {
			t.Fatalf("%s: found %v", tt.name, found)
		}
		if tt.found && !strings.HasSuffix(found[0].String(), "remedy: sysctl -w net.ipv4.nexthop_compat_mode=0") {
			t.Errorf("%s: %v", tt.name, found[0])
		}
	}
	if _, err := Check(fstest.MapFS{}, 1); err == nil {
		t.Error("a kernel without the setting was not reported")
	}
}
