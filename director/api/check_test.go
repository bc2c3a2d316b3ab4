package api

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// What cannot be read is told with the rest, each at its place.
func TestCheckRecords(t *testing.T) {
	l := furnished()
	c, _ := serveUnix(t, l, Options{})
	weight := uint32(100)
	got, err := c.Check(t.Context(), CheckRequest{
		Services: []Service{{Name: "bad", VIPs: []string{"nowhere"}, Protocols: []string{"esp"}}, {Name: "new", VIPs: []string{"192.0.2.99"}, Protocols: []string{"udp/51820"}, Method: "masq"},
			{Name: "nat", VIPs: []string{"192.0.2.98"}, Protocols: []string{"esp"}, Method: "masq"}},
		Tenants:     []Tenant{{Name: "acme", Covers: []string{"10.1.0.0/16"}}},
		RealServers: []RealServer{{Name: "rs9", Addresses: []string{"198.51.100.99"}, Services: []string{"new"}, Weight: &weight}},
	})
	want := []CheckResult{
		{Object: "service bad", Problem: &Problem{Errors: []FieldError{{Field: "vips[0]"}}}}, {Object: "service new", Changed: true, Created: true},
		{Object: "service nat", Problem: &Problem{Errors: []FieldError{{Field: "protocols[0]"}}}}, {Object: "tenant acme", Changed: true, Created: true},
		{Object: "real server rs9", Changed: true, Created: true},
	}
	fields := cmp.Options{cmpopts.IgnoreFields(Problem{}, "Type", "Title", "Status", "Detail"), cmpopts.IgnoreFields(FieldError{}, "Value", "Problem", "Remedy")}
	if diff := cmp.Diff(want, got, fields...); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	if _, there := l.Table().Service("new"); there {
		t.Error("a check created a service")
	}
}
