package main

import (
	"testing"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
)

func TestEntriesFor(t *testing.T) {
	ipsec := plane.Service{Match: []affinity.Match{{Proto: 50}, {Proto: 51}, {Proto: 17, Lo: 500, Hi: 500}, {Proto: 17, Lo: 4500, Hi: 4500}}} // ESP and AH go under UDP/500
	l2tp := plane.Service{Match: []affinity.Match{{Proto: 17, Lo: 1701, Hi: 1704}}}
	for want, c := range map[int]plane.Config{
		0:   {},
		200: {Services: []plane.Service{ipsec}},
		400: {Services: []plane.Service{ipsec, l2tp}},
	} {
		if got := entriesFor(c, 100); got != want {
			t.Errorf("%d entries for 100 endpoints, want %d", got, want)
		}
	}
}
