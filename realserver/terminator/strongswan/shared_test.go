package strongswan

import (
	"slices"
	"strings"
	"testing"
)

// TestSharedIdentity: sites of one identity are told apart by where they are, and nobody but the one that is meant is ended.
func TestSharedIdentity(t *testing.T) {
	f := startFake(t)
	f.config["sites"] = bare(sites("pre-shared key"))
	f.sas = []fakeSA{
		known("sites", "1", "192.168.1.2", "203.0.113.11 4500", installed("net", "c0000001", true, "100.64.1.0/28")),
		known("sites", "2", "192.168.1.2", "203.0.113.12 4500", installed("net", "c0000002", true, "100.64.2.0/28")),
		known("sites", "3", "192.168.1.2", "203.0.113.12 4501", installed("net", "c0000003", true, "100.64.3.0/28")),
		known("sites", "4", "x at 10.0.0.1", "203.0.113.14 4500", installed("net", "c0000004", true, "100.64.4.0/28")), // looks like two
	}
	d := f.driver(Options{})
	list, err := d.Tunnels(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, x := range list {
		names = append(names, x.Peer)
	}
	slices.Sort(names)
	want := []string{"sites 192.168.1.2 at 203.0.113.11:4500", "sites 192.168.1.2 at 203.0.113.12:4500", "sites 192.168.1.2 at 203.0.113.12:4501", "sites x at 10.0.0.1"}
	if !slices.Equal(names, want) {
		t.Fatalf("reported %q, want %q", names, want)
	}
	for _, tt := range []struct {
		peer, endpoint string
		want           []string
		says           string // of a release
	}{
		{want[1], "203.0.113.12:4500", []string{"2"}, ""},
		{"sites 192.168.1.2", "203.0.113.12:4501", []string{"3"}, ""},
		{"sites 192.168.1.2", "203.0.113.12:0", []string{"2", "3"}, ""},
		{"sites 192.168.1.2", "203.0.113.99:4500", nil, "sites 192.168.1.2 is established, but from 203.0.113.11:4500 and not from 203.0.113.99:4500"},
		{"sites x at 10.0.0.1", "203.0.113.14:4500", []string{"4"}, ""},
		{"sites x at 10.0.0.1 at 203.0.113.14:4500", "203.0.113.14:4500", []string{"4"}, ""},
		{"sites 192.168.1.7", "203.0.113.99:4500", nil, ""},
	} {
		order := inherited(tt.peer, tt.endpoint, "100.64.9.0/28")
		f.ended = nil
		err := d.Release(t.Context(), order)
		if !slices.Equal(f.ended, tt.want) || (err != nil) != (tt.says != "") || err != nil && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("release of %s, %s: ended %v, want %v (%v)", tt.peer, tt.endpoint, f.ended, tt.want, err)
		}
		f.ended = nil
		if err := d.Adopt(t.Context(), order); err != nil || !slices.Equal(f.ended, tt.want) {
			t.Errorf("adopt of %s, %s: ended %v, want %v (%v)", tt.peer, tt.endpoint, f.ended, tt.want, err)
		}
	}
	// A copy is for the identity, not for the name by which sites are told apart.
	c, identity, err := d.connectionOf(t.Context(), inherited(want[0], "203.0.113.11:4500"))
	if err != nil || c.name != "sites" || identity != "192.168.1.2" {
		t.Errorf("connection %q, identity %q, %v", c.name, identity, err)
	}
}
