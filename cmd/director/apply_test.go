package main

import (
	"strings"
	"testing"

	"tunneldirector/affinity"
	"tunneldirector/cmd/console"
	"tunneldirector/cmd/console/consoletest"
	"tunneldirector/director/plane"
	"tunneldirector/director/plane/mem"
)

func TestApply(t *testing.T) {
	w := newWorld(t)
	all := []string{"service ipsec", "tenant default", "real server rs1", "real server rs2", "real server rs3"}
	expect := func(r consoletest.Ran, result string) {
		t.Helper()
		r.Exits(console.ExitOK)
		var want strings.Builder
		for _, name := range all {
			want.WriteString(result + strings.Repeat(" ", 11-len(result)) + name + "\n")
		}
		if r.Out != want.String() {
			t.Errorf("prints:\n%swant:\n%s", r.Out, want.String())
		}
	}
	expect(w.feed(furniture, "apply", "-", "--dry-run").Tells("5 records: 5 created (dry run: nothing was changed)"), "created")
	expect(w.feed(furniture, "apply", "-").Tells("5 records: 5 created"), "created")
	expect(w.feed(furniture, "apply", "--dry-run", "-"), "unchanged")
	expect(w.feed(furniture, "apply", "-"), "unchanged")

	w.run("realserver", "drain", "rs1").Exits(console.ExitOK)
	heavier := write(t, "site.yaml", strings.Replace(furniture, "weight: 200", "weight: 300", 1))
	w.run("apply", heavier, "--dry-run").Exits(console.ExitOK, "unchanged  real server rs1", "changed    real server rs2")
	w.run("apply", heavier).Exits(console.ExitOK, "unchanged  real server rs1", "changed    real server rs2").Tells("1 changed 4 unchanged")
	w.run("realserver", "list", "--json").Exits(console.ExitOK, `"name":"rs1"`, `"admin":"drained"`, `"weight":300`)
}

// What a file says of a service, the service is; what it leaves out is as by default.
func TestApplyAllOfAService(t *testing.T) {
	w := newWorld(t)
	const long = "services:\n- {name: a, vips: [192.0.2.1], protocols: [esp], method: tunnel, unknown: hash, placement: round-robin, learn: true, max_unavailable: 2}\n"
	w.feed(long, "apply", "-").Exits(console.ExitOK, "created    service a")
	w.run("service", "list", "--json").Exits(console.ExitOK, `"method":"tunnel","unknown":"hash","placement":"round-robin","learn":true,"max_unavailable":2,`)
	w.run("service", "list").Exits(console.ExitOK, "LEARNS  MAX UNAVAILABLE", "yes                   2")
	w.feed(long, "apply", "-").Exits(console.ExitOK, "unchanged  service a")
	for _, less := range []string{", learn: true", ", max_unavailable: 2"} {
		w.feed(strings.Replace(long, less, "", 1), "apply", "-", "--dry-run").Exits(console.ExitOK, "changed    service a")
	}
	w.feed("services:\n- {name: a, vips: [192.0.2.1], protocols: [esp]}\n", "apply", "-").Exits(console.ExitOK, "changed    service a")
	if r := w.run("service", "list", "--json").Exits(console.ExitOK); strings.Contains(r.Out, "learn") || strings.Contains(r.Out, "max_unavailable") {
		t.Errorf("it stayed: %s", r.Out)
	}
}

// Who is to hold an address is applied, and goes when the file says it no more.
func TestApplyPreferences(t *testing.T) {
	w := newWorld(t)
	const site = "services:\n- {name: a, vips: [192.0.2.1], protocols: [esp]PREFER}\n" +
		"tenants:\n- {name: default, covers: [100.64.0.0/10]GATEWAYS}\n"
	full := strings.NewReplacer("PREFER", ", prefer: {192.0.2.1: [d1, d2]}", "GATEWAYS", ", gateways: [{address: 198.51.100.1, prefer: [d2, d1]}, {address: 198.51.100.2}]").Replace(site)
	w.feed(full, "apply", "-").Exits(console.ExitOK, "created    service a", "created    tenant default")
	w.feed(full, "apply", "-").Exits(console.ExitOK, "unchanged  service a", "unchanged  tenant default")
	w.run("service", "list", "--json").Exits(console.ExitOK, `"prefer":{"192.0.2.1":["d1","d2"]}`)
	w.run("tenant", "list", "--json").Exits(console.ExitOK, `"gateways":[{"address":"198.51.100.1","prefer":["d2","d1"]},{"address":"198.51.100.2"}]`)
	w.feed(strings.NewReplacer("PREFER", "", "GATEWAYS", "").Replace(site), "apply", "-").Exits(console.ExitOK, "changed    service a", "changed    tenant default")
}

// A VIP may move from one service to another in one file, whatever their order.
func TestApplyMovesVIPs(t *testing.T) {
	w := newWorld(t)
	w.feed("services:\n- {name: a, vips: [192.0.2.1], protocols: [esp]}\n- {name: b, vips: [192.0.2.2], protocols: [esp]}\n", "apply", "-").Exits(console.ExitOK)
	w.feed("services:\n- {name: a, vips: [192.0.2.2], protocols: [esp]}\n- {name: b, vips: [192.0.2.3], protocols: [esp]}\n", "apply", "-").
		Exits(console.ExitOK, "changed    service a", "changed    service b").Tells("2 records: 2 changed")
}

// A dry run is judged as a whole by the director, by its plane too.
func TestApplyDryRunIsJudged(t *testing.T) {
	w := newWorldOver(t, &narrow{newMem()})
	const site = "services:\n- {name: a, vips: [192.0.2.1], protocols: [gre]}\n- {name: b, vips: [192.0.2.2], protocols: [esp]}\n- {name: c, vips: [192.0.2.2], protocols: [ah, esp]}\n" +
		"real_servers:\n- {name: rs1, addresses: [198.51.100.1], services: [b]}\n"
	w.feed(site, "apply", "-", "--dry-run").Exits(console.ExitPartly, "refused    service a", "created    service b", "refused    service c", "created    real server rs1").
		Tells("4 records: 2 created 2 refused (dry run: nothing was changed)", "field    protocols[0]", "problem  is not carried here", "overlaps esp of service b at the same VIP")
	w.run("service", "list").Exits(console.ExitOK).Tells("no services")
	w.feed("services:\n- {name: a, vips: [192.0.2.1], protocols: [esp]}\n- {name: b, vips: [192.0.2.2], protocols: [esp]}\n", "apply", "-").Exits(console.ExitOK)
	w.feed("services:\n- {name: a, vips: [192.0.2.2], protocols: [esp]}\n- {name: b, vips: [192.0.2.3], protocols: [esp]}\n", "apply", "-", "--dry-run").
		Exits(console.ExitOK, "changed    service a", "changed    service b")
}

// narrow is a plane that carries no GRE.
type narrow struct{ *mem.Plane }

func (narrow) Check(c plane.Config) (out []plane.Inability) {
	for _, s := range c.Services {
		if s.Match[0].Proto == 47 {
			out = append(out, plane.Inability{Kind: "service", Name: s.Name, Fault: affinity.Fault{Field: "protocols[0]", Value: "gre", Problem: "is not carried here"}})
		}
	}
	return out
}

func TestApplyFaults(t *testing.T) {
	w := furnished(t)
	w.feed("services:\n- {name: x, vips: [nowhere], protocols: [esp]}\n- {nam: y}\n", "apply", "-").Exits(console.ExitFailed).
		Tells("nothing was applied", "services[0].vips[0]", "line 2", "line 3")
	w.feed("real_servers:\n- {name: rs9, addresses: [198.51.100.19], services: [wg]}\n", "apply", "-").Exits(console.ExitRefused, "refused    real server rs9").Tells("value    wg")
	w.feed("real_servers:\n- {name: rs8, addresses: [198.51.100.18], services: [ipsec]}\n- {name: rs9, addresses: [198.51.100.19], services: [wg]}\n", "apply", "-", "--json").
		Exits(console.ExitPartly, `{"object":"real server rs8","result":"created"}`, `"result":"refused","problem":{`)
	w.run("apply", "/nowhere/site.yaml").Exits(console.ExitFailed).Tells("/nowhere/site.yaml")
	w.feed(strings.Repeat("#", maxRecords+1), "apply", "-").Exits(console.ExitFailed).Tells("is it a file of records?")
	w.feed("", "apply", "-").Exits(console.ExitFailed).Tells("holds no record")
}
