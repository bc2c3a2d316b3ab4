package main

import (
	"fmt"
	"strings"
	"testing"

	"tunneldirector/affinity"
	"tunneldirector/director/config"
	"tunneldirector/director/plane"
)

func TestChoose(t *testing.T) {
	here := func() error { return nil }
	gone := func() error { return fmt.Errorf("%w: the kernel has no IPVS", plane.ErrUnsupported) }
	asks := func(protocols ...uint8) (c plane.Config) {
		for _, p := range protocols {
			c.Services = append(c.Services, plane.Service{Name: "s", Match: []affinity.Match{{Proto: p}}})
		}
		return c
	}
	tagged := []config.Interface{{Name: "eth0"}, {Name: "eth1", VLANs: map[uint16]string{7: "acme"}}}
	tests := []struct {
		name, plane string
		interfaces  []config.Interface
		asked       plane.Config
		probe       func() error
		kind, by    string
		why         string
	}{
		{"by name", "xdp", nil, asks(50), here, "xdp", "configuration", "plane: xdp"},
		{"by name, in vain", "ipvs", nil, asks(47), gone, "ipvs", "configuration", "plane: ipvs"},
		{"by itself", "auto", nil, asks(50, 51), here, "ipvs", "auto", "the kernel has IPVS"},
		{"nothing stored yet", "auto", nil, asks(), here, "ipvs", "auto", "the kernel has IPVS"},
		{"no IPVS", "auto", nil, asks(50), gone, "xdp", "auto", "the kernel has no IPVS"},
		{"compare only", "shadow", nil, asks(47), gone, "shadow", "configuration", "plane: shadow"},
		{"what IPVS cannot do", "auto", nil, asks(50, 47), here, "xdp", "auto", "service s, protocols[0] \"gre\": IPVS has no handler"},
		{"several such", "auto", nil, asks(4, 41, 47), here, "xdp", "auto", "and 2 more that IPVS cannot do"},
		{"tags", "auto", tagged, asks(50), here, "xdp", "auto", "interface eth1 tells tenants by 802.1Q tag"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := choose(config.Config{Plane: tt.plane, Interfaces: tt.interfaces}, tt.asked, tt.probe)
			if got.kind != tt.kind || got.by != tt.by || !strings.Contains(got.why, tt.why) || strings.HasPrefix(got.why, "not supported") {
				t.Errorf("chose %+v", got)
			}
		})
	}
}
