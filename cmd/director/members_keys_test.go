package main

import (
	"strings"
	"testing"

	"tunneldirector/director/api"
)

// A change of the ring that would lock somebody out is refused.
func TestLockedOut(t *testing.T) {
	both := []string{"d1", "d2"}
	old := api.KeyInfo{Fingerprint: "old", On: both, PrimaryOn: both}
	all, part := api.KeyInfo{Fingerprint: "new", On: both}, api.KeyInfo{Fingerprint: "new", On: []string{"d1"}, Missing: []string{"d2"}}
	dead := api.KeyInfo{Fingerprint: "old", On: []string{"d1"}, PrimaryOn: []string{"d1"}, Missing: []string{"d2"}}
	for _, tt := range []struct {
		name  string
		do    string
		key   string
		force bool
		list  []api.KeyInfo
		want  string
	}{
		{"use what all have", api.KeyUse, "new", false, []api.KeyInfo{old, all}, ""},
		{"use what one lacks", api.KeyUse, "new", false, []api.KeyInfo{old, part}, "director d2 is without key new"},
		{"use by force", api.KeyUse, "new", true, []api.KeyInfo{old, part}, ""},
		{"remove", api.KeyRemove, "new", false, []api.KeyInfo{old, all}, ""},
		{"remove while one is dead", api.KeyRemove, "new", false, []api.KeyInfo{dead, part}, "director d2 is without key old, or dead"},
		{"remove what seals", api.KeyRemove, "old", true, []api.KeyInfo{old, all}, "seals on d1, d2"},
		{"use what nobody has", api.KeyUse, "other", false, []api.KeyInfo{old}, ""},
	} {
		got := ""
		if p := lockedOut(api.KeyringChange{Do: tt.do, Fingerprint: tt.key, Force: tt.force}, tt.list); p != nil {
			got = p.Detail
			if p.Status != 409 || p.RetryAfter != 0 {
				t.Errorf("%s: %+v", tt.name, p)
			}
		}
		if (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}
