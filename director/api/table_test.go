package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"

	"tunneldirector/affinity"
)

// exported is a director's table, line by line.
func exported(t *testing.T, d Director) (lines []string) {
	t.Helper()
	status, _, data := ask(t, serve(t, d, Options{}), "GET", "/v1/table", "")
	if status != 200 {
		t.Fatalf("%d: %s", status, data)
	}
	return strings.SplitAfter(strings.TrimSuffix(string(data), "\n"), "\n")
}

// A table with claims that two want comes back with the same holders.
func TestContestedTablesComeBack(t *testing.T) {
	from := furnished()
	by := affinity.Actor{Name: "nms1"}
	endpoint := []affinity.Endpoint{netip.MustParseAddrPort("203.0.113.1:4500")}
	for _, id := range []string{"z", "a"} { // z holds it, though a is read first
		results, err := from.Do(t.Context(), []affinity.Op{affinity.PutTunnel{By: by, Tunnel: &affinity.Tunnel{ID: id, Service: "ipsec", Endpoints: endpoint}, Transient: true}})
		if err != nil || results[0].Err != nil {
			t.Fatal(err, results)
		}
	}
	lines := exported(t, from)
	text := strings.Join(lines, "")
	if !strings.Contains(lines[1], `"id":"a"`) || !strings.Contains(lines[1], `"contested":["`) || strings.Contains(lines[2], "contested") {
		t.Fatalf("%s", text)
	}
	to := newLab()
	status, _, data := ask(t, serve(t, to, Options{}), "PUT", "/v1/table", text)
	if status != 200 || !strings.Contains(string(data), `"complete":true`) {
		t.Fatalf("%d %s", status, data)
	}
	for id, want := range map[string]bool{"z": false, "a": true} {
		tun, ok := to.Table().Tunnel(id)
		if got := ok && len(to.Table().Contested(tun)) > 0; got != want || !ok || tun.Owner != "nms1" {
			t.Errorf("%s: contested %v, want %v; %+v", id, got, want, tun)
		}
	}
	// Where the table does not say so, nobody is contested.
	status, _, data = ask(t, serve(t, newLab(), Options{}), "PUT", "/v1/table", lines[0]+strings.Replace(lines[1], `"contested"`, `"labels":{},"contested"`, 1)+lines[2]+lines[3])
	if status != 200 {
		t.Errorf("%d %s", status, data)
	}
	i := strings.Index(lines[1], `,"contested"`)
	status, _, data = ask(t, serve(t, newLab(), Options{}), "PUT", "/v1/table", lines[0]+lines[1][:i]+"}}\n"+lines[2]+lines[3])
	if status != 422 || !strings.Contains(string(data), "tunnel z") {
		t.Errorf("%d %s", status, data)
	}
}

func TestImportRefuses(t *testing.T) {
	lines := exported(t, furnished())
	head, end := lines[0], lines[len(lines)-1]+"\n"
	tunnel := func(n int) string { return fmt.Sprintf(`{"tunnel":%s}`, tunnelLine(n)) + "\n" }
	for _, tt := range []struct {
		name, body string
		status     int
		says       string
	}{
		{"nothing", "", 400, "the body is empty"},
		{"no head", end, 422, "is not a table's head"},
		{"a batch", tunnelLine(1), 422, "is not a known field"},
		{"two things", `{"table":{"format":1,"services":[],"tenants":[],"real_servers":[]},"end":{"tunnels":0}}`, 422, "is not one of table, tunnel and end"},
		{"no end", head + tunnel(1), 422, "is missing after 1 tunnels"},
		{"another count", head + tunnel(1) + end, 422, "is not what came: 1 tunnels"},
		{"cut off", head[:len(head)/2], 422, "unexpected EOF"},
		{"two heads", head + head + end, 422, "stands twice"},
		{"too many", head + tunnel(1) + tunnel(2) + tunnel(3) + `{"end":{"tunnels":3}}`, 413, "over 2 tunnels"},
		{"behind the end", head + end + tunnel(1), 422, "behind the end"},
		{"a time before all", strings.Replace(head, `"admin":"active"`, `"admin":"drained","drain":{"deadline":"1920-01-01T00:00:00Z"}`, 1) + end, 422, "before all time"},
		{"garbage", strings.Repeat("x\n", 3000), 400, "is not NDJSON"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newLab()
			status, _, data := ask(t, serve(t, d, Options{MaxSetLines: 2}), "PUT", "/v1/table", tt.body)
			if status != tt.status || !strings.Contains(string(data), tt.says) {
				t.Errorf("%d, want %d with %s: %s", status, tt.status, tt.says, data)
			}
			if d.Table().Len() > 0 || len(d.Table().Services()) > 0 {
				t.Error("half of it was taken")
			}
		})
	}
	srv := serve(t, furnished(), Options{Tokens: testTokens})
	for token, want := range map[string]int{"s-read": 403, "s-nms": 403} {
		if status, _, data := ask(t, srv, "PUT", "/v1/table", "", "Authorization", "Bearer "+token); status != want {
			t.Errorf("%s: %d %s", token, status, data)
		}
	}
	if status, _, _ := ask(t, srv, "GET", "/v1/table", "", "Authorization", "Bearer s-read"); status != 200 {
		t.Errorf("who may read may not export: %d", status)
	}
}

// The client reads what it writes.
func TestTableClient(t *testing.T) {
	c, err := NewClient(ClientOptions{URL: serve(t, furnished(), Options{}).URL})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	if err := c.ExportTable(t.Context(), func(l TableLine) error { return enc.Encode(l) }); err != nil {
		t.Fatal(err)
	}
	sum, err := c.ImportTable(t.Context(), ImportOptions{DryRun: true}, func(w io.Writer) error { _, err := w.Write(out.Bytes()); return err }, nil)
	if err != nil || sum.Lines != 2 || sum.Changed+sum.Unchanged != 5 || !sum.DryRun {
		t.Errorf("%+v %v", sum, err)
	}
}
