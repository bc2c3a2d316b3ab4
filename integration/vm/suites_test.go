package vm

import "time"

// guestBoot is what runs in one guest.
type guestBoot struct {
	name     string
	soak     bool // for make soak alone: too long for make test
	kernel   Kernel
	memory   int
	director bool
	files    map[string]string // path in the guest to file here
	tests    []Tests
}

// fewHistories is for a plane whose random histories run on the host's kernel, too: here they say that it is no other on
// this one.
const fewHistories = "PLANETEST_HISTORIES=10"

// guestBoots are the suites that run on Debian's kernel. All of those that are not for soak have to end within 8 minutes,
// emulated on two slow processors, as many at a time as go test's -parallel allows. With SOAK set they get that variable too, and ten times the time.
var guestBoots = []guestBoot{
	{
		name: "planes",
		// 100,000 entries and as many routes.
		memory: 1536,
		// For the change from one plane to another.
		director: true,
		tests: []Tests{
			{Package: "./integration/vm/smoke", Skip: "^TestEnd$", Timeout: time.Minute},
			// What is left out takes no kernel and runs on the host. Each history on the kernel takes 10 s.
			{Package: "./director/plane/ipvs", Skip: "^TestHistories$", Env: []string{"PLANETEST_HISTORIES=2"}},
			{Package: "./director/plane/ipvs/conntab", Timeout: time.Minute},
			{Package: "./director/plane/ipvs/gate", Timeout: 2 * time.Minute},
			{Package: "./director/plane/ipvs/inject", Skip: rates, Timeout: 2 * time.Minute},
			{Package: "./director/plane/ipvs/route", Timeout: 3 * time.Minute},
			{Package: "./director/plane/ipvs/shadow", Timeout: time.Minute},
			// What may be otherwise on another kernel. All of them run on the host's, and here in make soak.
			{Package: "./director/plane/xdp", Run: loaded, Env: []string{fewHistories}},
			{Package: "./cmd/director", Run: "^TestPlaneIsChangedUnderTraffic$", Timeout: 2 * time.Minute},
		},
	},
	{
		name:     "agents",
		memory:   1536,
		director: true,
		// What takes a kernel with IPIP, IPsec, WireGuard or GRE; the rest runs on the host.
		files: map[string]string{"/examples/agent/gre": "../../examples/agent/gre", "/examples/agent/l2tp": "../../examples/agent/l2tp"},
		tests: []Tests{
			{Package: "./realserver/host", Run: "^TestTunnel", Timeout: 2 * time.Minute},
			{Package: "./realserver/terminator/xfrm", Timeout: time.Minute},
			{Package: "./integration/datapath", Run: "^TestTunnel", Timeout: 2 * time.Minute},
			{Package: "./integration/terminators", Run: "^Test(GRE|L2TP|WireGuardKernel)$", Timeout: 2 * time.Minute},
			{Package: "./integration/guest", Run: agents, Timeout: 6 * time.Minute},
		},
	},
	{
		name:     "ipsec",
		memory:   1536,
		director: true,
		tests:    []Tests{{Package: "./integration/guest", Run: ipsec, Timeout: 7 * time.Minute}},
	},
	{
		name:     "tunnels",
		memory:   1536,
		director: true,
		tests:    []Tests{{Package: "./integration/guest", Run: tunnels, Timeout: 7 * time.Minute}},
	},
	{
		name:     "changes",
		memory:   1536,
		director: true,
		tests: []Tests{
			{Package: "./integration/guest", Skip: ipsec + "|" + tunnels + "|" + agents, Timeout: 7 * time.Minute},
			{Package: "./integration/doctor", Run: "^TestPlantedLoopOnIPVS$", Timeout: 4 * time.Minute},
		},
	},
	{
		name:     "clock", // which is the guest's own
		soak:     true,
		memory:   1536,
		director: true,
		tests:    []Tests{{Package: "./integration/agents", Run: "^TestClockJump$", Timeout: 2 * time.Minute}},
	},
	{
		name: "histories",
		soak: true,
		tests: []Tests{
			{Package: "./director/plane/ipvs", Run: "^TestWire$", Env: []string{"PLANETEST_HISTORIES=100"}},
			// The one left out reads sources, which are not there.
			{Package: "./director/plane/xdp", Skip: "^TestReasonsAreOneList$", Env: []string{"PLANETEST_HISTORIES=1000"}},
			{Package: "./director/plane/ipvs/inject", Run: rates},
		},
	},
}

// The tests of real tunnels by what they are about, so that no guest runs much longer than the others: with the daemons of
// IPsec; tunnels of the kernel, each kind and method; the rest are deaths, restarts and what is unknown.
const (
	ipsec   = "^Test(StrongSwan|Libreswan)"
	tunnels = "^Test(KernelTunnels|Method|Fragments|TooBig|IPVSRefuses)"
	agents  = "^TestAgents"

	loaded = "^Test(Histories|OpenAdopts|NewMapsAreMadeBesideThePinned|RestartUnderTraffic|InterfaceMadeAnew|OnTheWire|IPIPOnTheWire|TooBigIsTold|WatchedPacketsAreShown|WhatIsDroppedIsShown)$"
	rates  = "^TestKernelRates$"
)
