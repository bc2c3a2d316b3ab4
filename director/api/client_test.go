package api

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The client over a whole day's work: what it sends is taken, what it is answered it understands.
func TestClient(t *testing.T) {
	l := furnished()
	c, _ := serveUnix(t, l, Options{})
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := c.PutTenant(ctx, Tenant{Covers: []string{"100.64.0.0/10", "10.0.0.0/8"}})
	must(err)
	_, err = c.PutTenant(ctx, Tenant{Name: "acme", Covers: []string{"10.0.0.0/8"}})
	must(err)
	tenants, err := c.Tenants(ctx)
	must(err)
	if len(tenants) != 2 || tenants[0].Name != "default" || len(tenants[0].Covers) != 2 {
		t.Errorf("tenants %+v", tenants)
	}
	_, err = c.DeleteTenant(ctx, "acme")
	must(err)
	_, err = c.PutService(ctx, Service{Name: "wg", VIPs: []string{"192.0.2.20"}, Protocols: []string{"udp/51820"}, Unknown: "hash"})
	must(err)
	svc, err := c.Service(ctx, "wg")
	must(err)
	if svc.Unknown != "hash" || svc.Method != "dr" {
		t.Errorf("service %+v", svc)
	}
	weight := uint32(7)
	_, err = c.PutRealServer(ctx, RealServer{Name: "rs9", Zone: "b", Addresses: []string{"198.51.100.99"}, Services: []string{"wg"}, Weight: &weight, Check: "udp/51820"})
	must(err)
	_, err = c.Drain(ctx, "rs9", DrainRequest{Rate: "20/s"})
	must(err)
	_, err = c.SetWeight(ctx, "rs9", 8)
	must(err)
	rs, err := c.RealServer(ctx, "rs9")
	must(err)
	if rs.Admin != "drained" || *rs.Weight != 8 || rs.Host != "rs9" || rs.Check != "udp/51820" || rs.State != "new" {
		t.Errorf("real server %+v", rs)
	}
	seen, err := c.Seen(ctx, SeenFilter{States: []string{SeenRight, SeenWrong}, RealServer: "rs9", Limit: 5})
	must(err)
	orders, err := c.Orders(ctx, "rs9", true, 5)
	must(err)
	if seen.Seen == nil || orders.Orders == nil {
		t.Errorf("seen %+v, orders %+v", seen, orders)
	}
	_, err = c.Undrain(ctx, "rs9")
	must(err)
	_, err = c.DeleteRealServer(ctx, "rs9", true)
	must(err)
	_, err = c.DeleteService(ctx, "wg")
	must(err)
	services, err := c.Services(ctx)
	must(err)
	all, err := c.RealServers(ctx)
	must(err)
	if len(services) != 1 || len(all) != 3 {
		t.Errorf("%d services, %d real servers", len(services), len(all))
	}
	put, err := c.PutTunnel(ctx, Tunnel{ID: "a:b", Service: "ipsec", Group: "pair", Endpoints: []string{"203.0.113.5"}})
	must(err)
	tun, err := c.Tunnel(ctx, "a:b")
	must(err)
	if diff := cmp.Diff(put.TunnelState, tun); diff != "" {
		t.Errorf("what was put is read as (-put +read):\n%s", diff)
	}
	repinned, err := c.Repin(ctx, "@pair", RepinRequest{To: "rs2"})
	must(err)
	if repinned.Placement.RealServer != "rs2" {
		t.Errorf("repin: %+v", repinned)
	}
	must(c.Freeze(ctx, true))
	st, err := c.Status(ctx)
	must(err)
	if !st.Frozen || st.FrozenBy != "local" {
		t.Errorf("frozen %v by %q", st.Frozen, st.FrozenBy)
	}
	must(c.Freeze(ctx, false))
	must(c.Ready(ctx))
	ex, err := c.Lookup(ctx, Question{Src: "203.0.113.5", Dst: "192.0.2.10", Proto: "udp", SrcPort: 4500, DstPort: 4500})
	must(err)
	if ex.RealServer != "rs1" {
		t.Errorf("lookup %+v", ex)
	}
	del, err := c.DeleteTunnel(ctx, "a:b", 0)
	must(err)
	if !del.Deleted {
		t.Error("not deleted")
	}
}

func TestRebalanceSkipsWhatIsUp(t *testing.T) {
	l := furnished()
	c, _ := serveUnix(t, l, Options{})
	for _, id := range []string{"a", "b", "c"} {
		if _, err := c.PutTunnel(t.Context(), Tunnel{ID: id, Service: "ipsec"}); err != nil {
			t.Fatal(err)
		}
	}
	l.up["b"] = true
	var lines []string
	sum, err := c.Rebalance(t.Context(), RebalanceRequest{Rate: 1000}, func(r RebalanceLine) {
		lines = append(lines, fmt.Sprintf("%s %s-%s %v", r.Group, r.From, r.To, r.Error != nil))
	})
	if err != nil || sum.Moved != 2 || sum.Refused != 1 {
		t.Errorf("%+v, %v", sum, err)
	}
	if diff := cmp.Diff([]string{"a rs1-rs2 false", "b rs1-rs2 true", "c rs1-rs2 false"}, lines); diff != "" {
		t.Error(diff)
	}
}

func TestPagesAndFilters(t *testing.T) {
	l := furnished()
	c, _ := serveUnix(t, l, Options{})
	put := func(w Tunnel) {
		t.Helper()
		if _, err := c.PutTunnel(t.Context(), w); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 7 {
		put(Tunnel{ID: fmt.Sprintf("t%d", i), Service: "ipsec", Endpoints: []string{fmt.Sprintf("203.0.113.%d", i+1)}, Subnets: []string{fmt.Sprintf("100.64.%d.0/24", i)},
			Labels: map[string]string{"site": fmt.Sprint(i % 2), "only": fmt.Sprint(i)}, State: []string{"", "down", "up"}[i%3]})
	}
	put(Tunnel{ID: "g", Service: "ipsec", Group: "pair", Subnets: []string{"100.64.0.0/16"}, Endpoints: []string{"203.0.113.1:4500"}})
	if _, err := c.Repin(t.Context(), "t3", RepinRequest{To: "rs2"}); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		f    TunnelFilter
		want string
	}{
		{"all", TunnelFilter{}, "g t0 t1 t2 t3 t4 t5 t6"},
		{"small pages", TunnelFilter{Limit: 3}, "g t0 t1 t2 t3 t4 t5 t6"},
		{"exact pages", TunnelFilter{Limit: 4}, "g t0 t1 t2 t3 t4 t5 t6"},
		{"service", TunnelFilter{Service: "ipsec", Limit: 100}, "g t0 t1 t2 t3 t4 t5 t6"},
		{"real server", TunnelFilter{RealServer: "rs2"}, "t3"},
		{"endpoint", TunnelFilter{Endpoint: "203.0.113.1"}, "g t0"},
		{"endpoint by pages", TunnelFilter{Endpoint: "203.0.113.1", Limit: 1}, "g t0"},
		{"inside", TunnelFilter{Inside: "100.64.2.9"}, "g t2"},
		{"inside of a tenant", TunnelFilter{Inside: "100.64.2.9", Tenant: "default"}, "g t2"},
		{"inside and endpoint", TunnelFilter{Inside: "100.64.2.9", Endpoint: "203.0.113.3"}, "t2"},
		{"state", TunnelFilter{State: "up"}, "t2 t5"},
		{"unsaid", TunnelFilter{State: "unsaid"}, "g t0 t3 t6"},
		{"label", TunnelFilter{Labels: []string{"site=1"}}, "t1 t3 t5"},
		{"labels", TunnelFilter{Labels: []string{"site=1", "only=3"}}, "t3"},
		{"label's key", TunnelFilter{Labels: []string{"site"}, Limit: 2}, "t0 t1 t2 t3 t4 t5 t6"},
		{"owner", TunnelFilter{Owner: "local"}, "g t0 t1 t2 t3 t4 t5 t6"},
		{"nobody's", TunnelFilter{Owner: "nms1"}, ""},
		{"group", TunnelFilter{Group: "pair"}, "g"},
		{"group's id", TunnelFilter{Group: "@pair"}, "g"},
		{"placed", TunnelFilter{Placed: "yes"}, "g t0 t1 t2 t3 t4 t5 t6"},
		{"unplaced", TunnelFilter{Placed: "no"}, ""},
		{"contested", TunnelFilter{Placed: "contested"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for tun, err := range c.Tunnels(t.Context(), tt.f) {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, tun.ID)
			}
			if s := strings.Join(got, " "); s != tt.want {
				t.Errorf("%s, want %s", s, tt.want)
			}
		})
	}
}

// A tunnel that is listed can be pushed again as it is: an export is an import.
func TestExportIsImport(t *testing.T) {
	l := furnished()
	c, _ := serveUnix(t, l, Options{})
	if _, err := c.PutTunnel(t.Context(), Tunnel{ID: "a", Service: "ipsec", Endpoints: []string{"203.0.113.5:4500", "2001:db8::7"}, Subnets: []string{"100.64.0.0/28", "2001:db8:100::/56"},
		Bandwidth: 5, Group: "g", State: "coming", Labels: map[string]string{"k": "v"}, SeparateFrom: []string{"z"}, Generation: 4}); err != nil {
		t.Fatal(err)
	}
	sum, err := c.Batch(t.Context(), func(yield func(BatchItem, error) bool) {
		for tun, err := range c.Tunnels(t.Context(), TunnelFilter{}) {
			if !yield(BatchItem{Tunnel: tun.Tunnel}, err) {
				return
			}
		}
	}, false, nil)
	if err != nil || sum.Unchanged != 1 {
		t.Errorf("%+v, %v", sum, err)
	}
}

func TestClientErrors(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, tt := range []struct {
		name string
		o    ClientOptions
		want string
	}{
		{"URL", ClientOptions{URL: "director1:8443"}, "https://director1:8443"},
		{"token file", ClientOptions{TokenFile: dir + "/none"}, "read the token"},
		{"empty token", ClientOptions{TokenFile: file("empty", "\n")}, "is empty"},
		{"CA file", ClientOptions{CAFile: file("ca", "no PEM")}, "no certificate"},
	} {
		if _, err := NewClient(tt.o); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	srv := httptest.NewServer(http.NotFoundHandler())
	defer srv.Close()
	c, err := NewClient(ClientOptions{URL: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Status(t.Context()); err == nil || !strings.Contains(err.Error(), "not how a director answers") {
		t.Errorf("another server: %v", err)
	}
}

func TestClientToken(t *testing.T) {
	srv := serve(t, furnished(), Options{Tokens: testTokens})
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte("s-read\nsecond line\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := NewClient(ClientOptions{URL: srv.URL, TokenFile: path})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Status(t.Context()); err != nil {
		t.Error(err)
	}
	_, err = c.PutTunnel(t.Context(), Tunnel{ID: "a", Service: "ipsec"})
	var p *Problem
	if !errors.As(err, &p) || p.Status != 403 || !strings.Contains(err.Error(), "use another token") {
		t.Errorf("%v", err)
	}
}

// The JSON names of records that travel are told nowhere twice.
func TestFieldNamesAreUnique(t *testing.T) {
	for name, fields := range map[string][]string{"tunnel": fieldNames(reflect.TypeFor[PutAnswer]()), "real server": fieldNames(reflect.TypeFor[RealServerState]()), "service": fieldNames(reflect.TypeFor[ServiceState]())} {
		sorted := slices.Sorted(slices.Values(fields))
		if len(slices.Compact(sorted)) != len(fields) {
			t.Errorf("%s: %v", name, fields)
		}
	}
}
