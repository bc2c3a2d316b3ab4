package vm

import "time"

// guestBoot is what runs in one guest.
type guestBoot struct {
	name     string
	soak     bool // for make soak alone: too long for make test
	kernel   Kernel
	memory   int
	director bool
	tests    []Tests
}

// guestBoots are the suites that run on Debian's kernel. All of those that are not for soak have to end within 8 minutes,
// emulated on two slow processors.
var guestBoots = []guestBoot{
	{
		name: "smoke",
		tests: []Tests{
			{Package: "./integration/vm/smoke", Skip: "^TestEnd$", Timeout: time.Minute},
			// The one left out reads sources, which are not there.
			{Package: "./director/plane/xdp", Skip: "^TestReasonsAreOneList$", Timeout: 4 * time.Minute, Env: []string{"PLANETEST_HISTORIES=20"}},
		},
	},
}
