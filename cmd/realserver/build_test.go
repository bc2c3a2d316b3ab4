package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestPlaces: probes of real servers that share a namespace and a way are answered at one place; what comes out of IPIP does so at
// the devices that are named, or that apply makes.
func TestPlaces(t *testing.T) {
	c, err := Parse([]byte(`
host: a
directors: [192.0.2.1:1]
real_servers:
  - {name: rs1, vips: [192.0.2.10, 192.0.2.11], interface: eth0, terminator: {kind: xfrm}}
  - {name: rs2, vips: [192.0.2.11, 192.0.2.12], interface: eth0, terminator: {kind: xfrm}}
  - {name: rs3, vips: [192.0.2.13], interface: eth0, method: tunnel, terminator: {kind: xfrm}}
  - {name: rs4, vips: [192.0.2.13], interface: eth0, method: tunnel, devices: [tunl0], terminator: {kind: xfrm}}
  - {name: rs5, vips: [192.0.2.10], interface: eth0, namespace: blue, terminator: {kind: xfrm}}
`))
	if err != nil {
		t.Fatal(err)
	}
	type at struct {
		Namespace, Method string
		VIPs              int
		Devices, Names    []string
	}
	var got []at
	for _, p := range placesOf(c) {
		got = append(got, at{p.namespace, p.method, len(p.vips), p.devices, p.realServers})
	}
	want := []at{{"", "dr", 3, nil, []string{"rs1", "rs2"}}, {"", "tunnel", 1, []string{"td4-rs3", "td6-rs3", "tunl0"}, []string{"rs3", "rs4"}}, {"blue", "dr", 1, nil, []string{"rs5"}}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
