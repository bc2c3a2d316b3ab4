package xdp

import (
	"strings"
	"testing"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
)

func TestCheck(t *testing.T) {
	c := plane.Config{Services: []plane.Service{{Name: "a"}, {Name: "b", Method: affinity.IPIP}, {Name: "c", Method: affinity.Masq}}}
	got := Check(c)
	if len(got) != 1 || got[0].Name != "c" || got[0].Fault.Field != "method" || !strings.Contains(got[0].Fault.Remedy, "ipvs") {
		t.Errorf("says %+v, want that c cannot have masq", got)
	}
}
