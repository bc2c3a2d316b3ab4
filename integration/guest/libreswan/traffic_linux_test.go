package libreswan

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseTraffic(t *testing.T) {
	got, err := parseTraffic(`006 #2: "site-001"[1] 203.0.113.11, type=ESP, add_time=1637470, inBytes=252, outBytes=168, maxBytes=2^63B, id='@site-001'
006 #14: "vip", type=ESP, add_time=1637470, inBytes=0, outBytes=0, maxBytes=2^63B, id='@vip'
`)
	if err != nil {
		t.Fatal(err)
	}
	want := []Traffic{{Connection: "site-001", SA: 2, In: 252, Out: 168}, {Connection: "vip", SA: 14}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestParseIKE(t *testing.T) {
	const out = `006 #1: "vip":500 STATE_V2_ESTABLISHED_IKE_SA (established IKE SA); REKEY in 28000s; idle;
006 #5: "vip":500 STATE_V2_ESTABLISHED_IKE_SA (established IKE SA); REKEY in 28000s; newest; idle;
006 #6: "vip":500 STATE_V2_ESTABLISHED_CHILD_SA (established Child SA); REKEY in 28000s; newest; eroute owner; IKE SA #5; idle;
006 #7: "site-001"[1] 203.0.113.11:500 STATE_V2_ESTABLISHED_IKE_SA (established IKE SA); idle;
`
	for connection, want := range map[string]int{"vip": 5, "site-001": 7, "nobody": 0} {
		if got, err := parseIKE(out, connection); err != nil || got != want {
			t.Errorf("%s: got %d, %v, want %d", connection, got, err, want)
		}
	}
}
