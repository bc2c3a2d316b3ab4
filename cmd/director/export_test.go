package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tunneldirector/affinity"
	"tunneldirector/cmd/console"
	"tunneldirector/director/api"
)

const oddRecords = `
services:
- {name: ipsec, vips: [192.0.2.10, "2001:db8::10"], protocols: [esp, udp/500, udp/4500], placement: round-robin, max_unavailable: 2}
- {name: "007", vips: [192.0.2.11], protocols: [udp/51820], unknown: hash, learn: true}
tenants:
- {name: default, covers: [100.64.0.0/10]}
- {name: acme, covers: [10.0.0.0/8]}
real_servers:
- {name: rs1, addresses: [198.51.100.11], services: [ipsec, "007"], host: node-a, zone: "yes", capacity: 5000, vlans: {acme: 100}}
- {name: rs2, addresses: [198.51.100.12], services: [ipsec, "007"], host: node-b, weight: 0, vlans: {acme: 100}}
- {name: rs3, addresses: [198.51.100.13], services: [ipsec, "007"], host: node-c, check: {udp: 500}, vlans: {acme: 100}}
- {name: rs4, addresses: [198.51.100.14], services: [ipsec, "007"], host: node-d, vlans: {acme: 100}}
`

// odd is a director with something of everything.
func odd(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.feed(oddRecords, "apply", "-").Exits(console.ExitOK)
	for _, name := range []string{"rs1", "rs2", "rs3", "rs4"} {
		w.verdict(name, true)
	}
	w.feed(sites(300), "tunnel", "import", "-").Exits(console.ExitOK)
	line, err := json.Marshal(api.Tunnel{ID: "odd: #\"1\"", Service: "ipsec", Endpoints: []string{"192.0.2.98:4500", "192.0.2.99"}, Subnets: []string{"10.1.0.0/24"}, Bandwidth: 1234567, Tenant: "acme",
		Group: "g", State: "coming", SeparateFrom: []string{"site-00001"}, Generation: 7, Labels: map[string]string{"spaces": `a; b="c", d`, "html": "<&>", "umlaut": "ö"}})
	if err != nil {
		t.Fatal(err)
	}
	w.feed(strings.ReplaceAll(string(line), `odd: #\"1\"`, "odd-1"), "tunnel", "import", "-").Exits(console.ExitOK, "1 created")
	w.feed(`{"id":"nms-1","service":"007","endpoints":["203.0.113.200"]}`, "tunnel", "import", "-").Exits(console.ExitOK, "1 created")
	op := affinity.Actor{Name: "local", Any: true}
	vip, gateway := netip.MustParseAddr("2001:db8::10"), netip.MustParseAddr("192.168.0.1")
	service, _ := w.d.Table().Service("ipsec")
	tenant, _ := w.d.Table().Tenant("acme")
	preferring, held := *service, *tenant
	preferring.Prefer = map[netip.Addr][]string{vip: {"d2", "d1"}}
	held.Gateways, held.Prefer = []netip.Addr{gateway, gateway.Next()}, map[netip.Addr][]string{gateway: {"d1"}}
	results, err := w.d.Do(t.Context(), []affinity.Op{
		affinity.PutService{By: op, Service: &preferring}, affinity.PutTenant{By: op, Tenant: &held},
		// As an NMS of its own would have pushed it.
		affinity.PutTunnel{By: affinity.Actor{Name: "nms2"}, Tunnel: &affinity.Tunnel{ID: "nms-2", Service: "ipsec"}},
	})
	if err != nil || results[0].Err != nil || results[1].Err != nil || results[2].Err != nil {
		t.Fatal(err, results)
	}
	w.run("realserver", "drain", "rs4", "--rate", "0.5/s", "--deadline", "2h").Exits(console.ExitOK)
	w.run("realserver", "drain", "rs3").Exits(console.ExitOK)
	return w
}

func export(w *world, flags ...string) string {
	w.t.Helper()
	file := filepath.Join(w.t.TempDir(), "table.yaml")
	w.run(append([]string{"export", "--file", file}, flags...)...).Exits(console.ExitOK).Tells("exported ")
	return file
}

// body is a table without what differs from export to export.
func body(t *testing.T, file string) string {
	t.Helper()
	var out []string
	for line := range strings.Lines(read(t, file)) {
		if !strings.HasPrefix(line, "revision:") && !strings.HasPrefix(line, "time:") {
			out = append(out, line)
		}
	}
	return strings.Join(out, "")
}

// What is exported and imported into an empty director is exported alike.
func TestTableRoundTrip(t *testing.T) {
	from := odd(t)
	plain, whole := export(from, "--no-placement"), export(from)
	if text := read(t, whole); !strings.Contains(text, "prefer:\n    2001:db8::10:\n") || !strings.Contains(text, "gateways:\n  - address: 192.168.0.1\n") || !strings.Contains(text, `"pinned":{"primary":"rs`) || !strings.Contains(text, `"owner":"nms2"`) || strings.Contains(read(t, plain), "pinned") {
		t.Errorf("%.3000s", text)
	}
	if r := from.run("export").Exits(console.ExitOK); cmp.Diff(body(t, whole), body(t, put2(t, r.Out))) != "" {
		t.Error("standard output has something else than the file")
	}
	to := newWorld(t)
	to.run("import", whole, "--dry-run").Exits(console.ExitOK, "dry run, nothing was changed: 311 created", "create service 007 service ipsec tenant default tenant acme real server rs1")
	if n := to.d.Table().Len(); n != 0 || len(to.d.Table().Services()) != 0 {
		t.Fatalf("a dry run made %d tunnels", n)
	}
	to.run("import", whole).Exits(console.ExitOK, "311 created")
	if diff := cmp.Diff(body(t, plain), body(t, export(to, "--no-placement"))); diff != "" {
		t.Errorf("(-exported +exported again):\n%s", diff)
	}
	r := to.run("import", whole).Exits(console.ExitOK, "0 created, 0 changed, 0 deleted, 311 unchanged")
	if strings.Contains(r.Out, "refused") {
		t.Error(r.Out)
	}
	to.run("import", whole, "--dry-run").Exits(console.ExitOK, "0 created, 0 changed, 0 deleted, 311 unchanged")
}

// Where a table comes back, tunnels come back to the real servers that they were at, if these are alive.
func TestKeepPlacement(t *testing.T) {
	from := furnished(t)
	from.feed(sites(60), "tunnel", "import", "-").Exits(console.ExitOK)
	for i := range 20 {
		from.run("repin", fmt.Sprintf("site-%05d", i), "--to", "rs3").Exits(console.ExitOK)
	}
	from.feed(`{"id":"up","service":"ipsec","state":"up","endpoints":["203.0.113.201"]}`, "tunnel", "import", "-").Exits(console.ExitOK)
	from.run("repin", "up", "--to", "rs3").Exits(console.ExitOK)
	file := export(from)
	to := newWorld(t)
	to.run("import", file).Exits(console.ExitOK, "66 created")
	to.run("repin", "up", "--to", "rs3").Exits(console.ExitOK)
	if cmp.Diff(primaries(from), primaries(to)) == "" {
		t.Error("the placements are the same by chance: the test shows nothing")
	}
	to.verdict("rs3", false)
	to.run("import", file, "--keep-placement").Exits(console.ExitOK, "66 unchanged", "groups could not be placed where the table has them, import again to try again")
	to.verdict("rs3", true)
	to.run("repin", "up", "--to", "rs3").Exits(console.ExitOK)
	to.run("import", file, "--keep-placement").Exits(console.ExitOK, "groups were moved to where the table has them")
	if diff := cmp.Diff(primaries(from), primaries(to)); diff != "" {
		t.Errorf("placements are not kept: %s", diff)
	}
	r := to.run("import", file, "--keep-placement").Exits(console.ExitOK, "66 unchanged")
	if strings.Contains(r.Out, "moved") {
		t.Error(r.Out)
	}
	to.run("repin", "up", "--to", "rs1").Exits(console.ExitOK) // and up there: it is not moved
	to.run("import", file, "--keep-placement").Exits(console.ExitOK, "1 groups could not be placed where the table has them")
	if primaries(to)["up"] != "rs1" {
		t.Error("a tunnel that is up was moved")
	}
}

func primaries(w *world) map[string]string {
	out := map[string]string{}
	table := w.d.Table()
	table.Tunnels("", func(tun *affinity.Tunnel) bool {
		p, _ := table.PinOf(tun)
		out[tun.ID] = table.NameAt(p.Primary)
		return true
	})
	return out
}

func put2(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "t.yaml")
	put(t, path, text)
	return path
}

// A file with something wrong in it changes nothing, and what is wrong is told with the file's line.
func TestBadTables(t *testing.T) {
	from := odd(t)
	good := read(t, export(from))
	head, _, _ := strings.Cut(good, "tunnels:\n")
	at := strings.Count(head, "\n") + 1 // the line tunnels:
	lines := strings.SplitAfter(good, "\n")
	first := lines[at] // of the tunnels
	edit := func(old, new string) string {
		t.Helper()
		if !strings.Contains(good, old) {
			t.Fatalf("the table lacks %q:\n%.2000s", old, good)
		}
		return strings.Replace(good, old, new, 1)
	}
	for _, tt := range []struct {
		name, text string
		says       []string
	}{
		{"empty", "", []string{"was cut off: a line `tunnels:` is missing"}},
		{"records alone", furniture, []string{"a line `tunnels:` is missing"}},
		{"not YAML", "services: [\n" + good, []string{"not well-formed YAML"}},
		{"cut off in the tunnels", good[:len(good)-400], []string{"nothing was changed"}},
		{"cut off behind a tunnel", strings.Join(lines[:at+5], ""), []string{"is missing after 5 tunnels: the table was cut off"}},
		{"a line is lost", strings.Replace(good, first, "", 1), []string{"end.tunnels", "302 tunnels"}},
		{"a line stands twice", strings.Replace(good, first, first+first, 1), []string{fmt.Sprintf("line %d, tunnel nms-1: id", at+2), fmt.Sprintf("stands in line %d already", at+1)}},
		{"a later format", edit("format: 1", "format: 2"), []string{"format", "this release reads format 1"}},
		{"an unknown key", edit("format: 1", "format: 1\nfoo: 2"), []string{"the head: table.foo", "is not a known field"}},
		{"a service's fault", edit("protocols:\n  - esp", "protocols:\n  - espp"), []string{"the head, service ipsec: protocols[0]", "espp"}},
		{"a real server of no service", edit("services:\n  - ipsec\n  - \"007\"", "services:\n  - ipsec\n  - \"008\""), []string{"008"}},
		{"two tunnels' faults", strings.NewReplacer("203.0.100.7\"", "203.0.100.7/7\"", "203.0.100.9\"", "nowhere\"").Replace(good), []string{"site-00007: endpoints[0]", "site-00009: endpoints[0]", "nowhere"}},
		{"a conflict", strings.Replace(good, "203.0.100.7\"", "203.0.100.8\"", 1), []string{"site-00008", "held by"}},
		{"a tunnel of no service", strings.Replace(good, `"id":"site-00001","service":"ipsec"`, `"id":"site-00001","service":"gre"`, 1), []string{"site-00001: service", "gre"}},
		{"what agents saw", strings.Replace(good, `"owner":"nms2"`, `"owner":"(learned)"`, 1), []string{"nms-2: owner", "nobody announced"}},
		{"something else among the tunnels", strings.Replace(good, first, "x: y\n"+first, 1), []string{fmt.Sprintf("line %d is neither a tunnel", at+1)}},
		{"something behind the end", good + first, []string{"stands behind the end"}},
		{"a drain of who is not drained", edit("admin: drained\n  vlans:\n    acme: 100\n  drain", "admin: active\n  vlans:\n    acme: 100\n  drain"), []string{"is not drained"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			to := newWorld(t)
			r := to.run("import", put2(t, tt.text))
			if r.Code == console.ExitOK {
				t.Errorf("it was taken: %s", r.Out)
			}
			for _, s := range tt.says {
				if !strings.Contains(r.ErrOut, s) {
					t.Errorf("does not say %q but:\n%s", s, r.ErrOut)
				}
			}
			if table := to.d.Table(); table.Len() > 0 || len(table.Services())+len(table.RealServers()) > 0 {
				t.Errorf("half of it was taken: %d tunnels", table.Len())
			}
		})
	}
}

// Into a director that has something, a table changes what it names, and no more; what is newer stays.
func TestImportOverATable(t *testing.T) {
	w := odd(t)
	file := export(w)
	w.run("tunnel", "add", "own", "--service", "ipsec", "--endpoint", "203.0.113.77").Exits(console.ExitOK)
	w.run("tunnel", "rm", "site-00003").Exits(console.ExitOK)
	w.feed(`{"id":"odd-1","service":"ipsec","generation":9}`, "tunnel", "import", "-").Exits(console.ExitOK, "1 changed")
	w.run("realserver", "undrain", "rs3").Exits(console.ExitOK)
	w.run("realserver", "weight", "rs2", "50").Exits(console.ExitOK)
	w.run("import", file, "--dry-run").Exits(console.ExitOK, "1 created, 2 changed", "1 tunnel pushed by others meanwhile", "create tunnel site-00003", "change real server rs2 real server rs3")
	w.run("import", file).Exits(console.ExitOK, "1 created, 2 changed", "1 tunnel pushed by others meanwhile")
	if _, ok := w.d.Table().Tunnel("own"); !ok {
		t.Error("what the table does not name is gone")
	}
	if tun, _ := w.d.Table().Tunnel("odd-1"); tun.Generation != 9 {
		t.Error("what is newer was changed")
	}
	if rs, _ := w.d.Table().RealServer("rs3"); rs.Admin != affinity.Drained {
		t.Error("rs3 is not drained again")
	}
	// A deadline that is over moves nothing at once.
	old := strings.ReplaceAll(read(t, file), fmt.Sprintf("deadline: \"%d", time.Now().Add(2*time.Hour).UTC().Year()), "deadline: \"2020")
	w.run("import", put2(t, old)).Exits(console.ExitOK, "note: real server rs4 is drained, but nothing of it is moved")
}

// The file is not there before it is whole.
func TestExportIsWhole(t *testing.T) {
	w := odd(t)
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	runIn(ctx, t, strings.NewReader(""), nil, "--socket", w.socket, "export", "--file", filepath.Join(dir, "t")).Exits(console.ExitInterrupted)
	if list, _ := os.ReadDir(dir); len(list) > 0 {
		t.Errorf("%q is left", list[0].Name())
	}
}

func FuzzTableHead(f *testing.F) {
	f.Add([]byte("format: 1\nservices:\n- {name: ipsec}\ntunnels:\n"))
	f.Add([]byte("tunnels:\n- {}\nend: {\"tunnels\":1}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		file := &tableFile{lines: lineReader{r: bufio.NewReaderSize(bytes.NewReader(data), 16)}}
		head, err := file.head()
		if err != nil {
			return
		}
		var out bytes.Buffer
		var m lineMap
		if err := file.send(t.Context(), &out, head, &m); err == nil && !json.Valid(bytes.TrimPrefix(bytes.SplitN(out.Bytes(), []byte("\n"), 2)[0], nil)) {
			t.Errorf("%q", out.Bytes())
		}
	})
}
