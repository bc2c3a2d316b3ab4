package host

import (
	"net/netip"
	"strings"
	"testing"
)

func TestNewFaults(t *testing.T) {
	good := Instance{Name: "rs1", VIPs: []netip.Addr{netip.MustParseAddr("192.0.2.100")}, Method: DR, Interface: "eth0", Protocols: []string{"esp", "udp/4500", "115"}}
	for _, tt := range []struct {
		name   string
		change func(*Instance)
		want   string // "" is well
	}{
		{"good", func(*Instance) {}, ""},
		{"name", func(in *Instance) { in.Name = "a b" }, "not a name"},
		{"method", func(in *Instance) { in.Method = "masq" }, `method "masq"`},
		{"interface", func(in *Instance) { in.Interface = "" }, "interface"},
		{"path", func(in *Instance) { in.Interface = "../all" }, "interface"},
		{"lo", func(in *Instance) { in.Interface = "lo" }, "lo leads"},
		{"no VIPs", func(in *Instance) { in.VIPs = nil }, "vips"},
		{"multicast", func(in *Instance) { in.VIPs = append(in.VIPs, netip.MustParseAddr("ff02::1")) }, "unicast"},
		{"two gateways", func(in *Instance) {
			in.Via = []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")}
		}, "another of its family"},
		{"VIP as own", func(in *Instance) { in.Own = in.VIPs }, "is a VIP"},
		{"mark", func(in *Instance) { in.Mark = 1 }, "needs via"},
		{"MTU", func(in *Instance) { in.MTU = 500 }, "mtu"},
		{"MSS", func(in *Instance) { in.MSS = 20 }, "mss"},
		{"protocol", func(in *Instance) { in.Protocols = []string{"esp/4"} }, "protocol"},
	} {
		in := good
		tt.change(&in)
		_, err := New(Config{Instances: []Instance{in}, StateFile: "host.json"})
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
	if _, err := New(Config{Instances: []Instance{good, good}}); err == nil || !strings.Contains(err.Error(), "twice") || !strings.Contains(err.Error(), "state file") {
		t.Errorf("twice, and no state file: %v", err)
	}
}
