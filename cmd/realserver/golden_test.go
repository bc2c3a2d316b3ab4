package main

import (
	"bytes"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"tunneldirector/cmd/console"
	"tunneldirector/cmd/console/consoletest"
	"tunneldirector/realserver"
	"tunneldirector/realserver/host"
)

// Tables and pages as people see them, over fixed answers.
func TestGolden(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	before := now.Add(-3*time.Hour - 20*time.Minute)
	status := realserver.Status{Host: "node-a", Version: "1.2.3", Started: before,
		Faults: []realserver.FaultStatus{{ID: "f1", Kind: "link-cut", RealServer: "wg1", By: "director 192.0.2.1:7460", Made: before, Until: now},
			{ID: "f2", Kind: "terminator-crash", RealServer: "rs1", Made: before, Until: now, Error: "start it again by /bin/start: exit status 1"}},
		RealServers: []realserver.RealServerStatus{
			{Name: "rs1", Terminator: "strongswan", Method: "dr", VIPs: []netip.Addr{addr("192.0.2.10"), addr("2001:db8::10")}, Health: "working", Since: before, Tunnels: 4321,
				Load: 1040, Full: true, Parts: []realserver.LoadPart{{Name: "cpu", Permille: 1040, Says: "83 % of a core, ceiling 80 %"}, {Name: "tunnels", Permille: 864, Says: "4321 of 5000"}},
				Adopt: realserver.Carried{Queued: 12, Trying: 20, Done: 1300, Waiting: 2, Failed: 1}, Release: realserver.Carried{Done: 7}, Unreported: 2,
				Failures: []realserver.Failure{{Tunnel: "site-0042", Outcome: "failed", Why: "the site was asked, the tunnel did not come up"}}},
			{Name: "wg1", Terminator: "wireguard", Method: "tunnel", VIPs: []netip.Addr{addr("192.0.2.20")}, Health: "headless", Cause: "wg0 does not answer", Since: now.Add(-3 * time.Second), Closed: true, Load: 120},
		},
		Directors: []realserver.StreamStatus{
			{Address: "192.0.2.1:7460", Connected: true, Since: before, Name: "director-1", Refused: map[string]string{"wg1": "there is no real server \"wg1\" here"},
				Warnings: []string{"real server rs1 does not hold VIP 192.0.2.11 of service ipsec"},
				Verdicts: []realserver.Verdict{{RealServer: "rs1", State: "alive", Since: before, Why: "answers probes", Drained: &before, Shut: "it is full: 104.0 % of its limit"},
					{RealServer: "wg1", State: "dead", Since: now.Add(-time.Minute), Why: "no answer to 3 probes"}}},
			{Address: "192.0.2.2:7460", Since: now.Add(-time.Minute - 2*time.Second), Why: "connection refused"},
		}}
	tunnels := []realserver.TunnelStatus{
		{RealServer: "rs1", Peer: "branch site-0042", Endpoint: "203.0.113.5:4500", Local: "192.0.2.10", Since: before, Last: &now, Rx: 3 << 20, Tx: 1500,
			Subnets: []netip.Prefix{netip.MustParsePrefix("100.64.1.0/24"), netip.MustParsePrefix("100.64.2.0/24"), netip.MustParsePrefix("100.64.3.0/24"), netip.MustParsePrefix("100.64.4.0/24")}},
		{RealServer: "wg1", Peer: "k5W=", Endpoint: "2001:db8::5", Since: now.Add(-26 * time.Hour)},
	}
	changes := []host.Change{
		{Object: "sysctl net.ipv4.conf.all.arp_ignore", From: "0", To: "1", Why: "the director answers for the VIP"},
		{Space: "blue", Object: "address 192.0.2.10/32 on lo", To: "present", Why: "packets to the VIP are for this host"},
		{Object: "address 192.0.2.11/32 on lo", From: "present", Why: "it was there before", Left: true},
	}
	findings := []host.Finding{{ID: "rp-filter", Instance: "rs1", What: "rp_filter of eth0 is 1", Causes: "packets from sites are dropped", Remedy: "realserver apply", Severity: host.Breaks}}
	undone := []realserver.UndoneFault{{FaultStatus: status.Faults[0], Undone: true}, {FaultStatus: status.Faults[1]}}
	tests := map[string]func(*console.Page){
		"undo-faults": func(p *console.Page) { undonePage(p, undone) },
		"status":      func(p *console.Page) { statusPage(p, now, &status) },
		"tunnels":     func(p *console.Page) { tunnelsPage(p, now, tunnels) },
		"plan":        func(p *console.Page) { changesPage(p, changes, "to make") },
		"doctor":      func(p *console.Page) { doctorPage(p, findings) },
	}
	for name, print := range tests {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			print(&console.Page{W: &b})
			consoletest.Golden(t, name, b.Bytes())
		})
	}
}

// TestUnits: the units of systemd run commands that there are, however long something is missing: systemd's default gives up after
// five starts in ten seconds.
func TestUnits(t *testing.T) {
	more := map[string][]string{"realserver": {"ExecStopPost=-/usr/local/bin/realserver undo-faults", "KillMode=process"}} // else a drill outlives the agent, or ends with it what it started
	for unit, commands := range map[string][]string{"realserver": {"check", "run"}, "director": {"check", "run"}} {
		text, err := os.ReadFile("../../examples/" + unit + ".service")
		if err != nil {
			t.Fatal(err)
		}
		for i, key := range []string{"ExecStartPre", "ExecStart"} {
			if line := key + "=/usr/local/bin/" + unit + " " + commands[i] + "\n"; !strings.Contains(string(text), line) {
				t.Errorf("%s.service lacks %s", unit, line)
			}
		}
		for _, line := range more[unit] {
			if !strings.Contains(string(text), "\n"+line+"\n") {
				t.Errorf("%s.service lacks %s", unit, line)
			}
		}
		if section, _, _ := strings.Cut(string(text), "\n[Service]\n"); !strings.Contains(section, "\nStartLimitIntervalSec=0\n") {
			t.Errorf("%s.service is given up", unit)
		}
	}
}
