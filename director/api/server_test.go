package api

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// serve starts a Server on loopback.
func serve(t testing.TB, d Director, o Options) *httptest.Server {
	t.Helper()
	if o.Name == "" {
		o.Name = "lab"
	}
	srv := httptest.NewServer(New(d, o))
	t.Cleanup(srv.Close)
	return srv
}

// ask sends a request, with headers as key, value pairs.
func ask(t testing.TB, srv *httptest.Server, method, path, body string, headers ...string) (int, http.Header, []byte) {
	t.Helper()
	req, err := http.NewRequest(method, srv.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			req.Host = headers[i+1]
		}
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if s, ok := srv.Config.Handler.(*Server); ok {
		described(t, s, method, path, res.StatusCode, res.Header, data)
	}
	return res.StatusCode, res.Header, data
}

func decodeInto[T any](t testing.TB, data []byte) T {
	t.Helper()
	var v T
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("decode %T: %v in %s", v, err, data)
	}
	return v
}

const site42 = `{"service":"ipsec","endpoints":["203.0.113.5"],"subnets":["100.64.40.32/28"],"bandwidth_bps":2000000,"group":"","tenant":"","state":"down","labels":{}}`

// Each case is one exchange with a furnished director that has site-0001 of another owner.
func TestRequests(t *testing.T) {
	tests := []struct {
		name, method, path, body string
		status                   int
		contains                 []string // of the answer
	}{
		{"create", "PUT", "/v1/tunnels/site-0042", site42, 201, []string{`"real_server":"rs1"`, `"backup":"rs2"`, `"programmed":["lab"]`, `"revision":"store1:`, `"why":"placed"`}},
		{"get none", "GET", "/v1/tunnels/nobody", "", 404, []string{"urn:tunneldirector:problem:not-found", "nobody"}},
		{"delete none", "DELETE", "/v1/tunnels/nobody", "", 200, []string{`"deleted":false`}},
		{"delete", "DELETE", "/v1/tunnels/site-0001", "", 200, []string{`"deleted":true`}},
		{"empty body", "PUT", "/v1/tunnels/x", "", 400, []string{"the body is empty"}},
		{"not JSON", "PUT", "/v1/tunnels/x", `{"service":`, 400, []string{"malformed", "not well-formed JSON"}},
		{"two values", "PUT", "/v1/tunnels/x", site42 + site42, 400, []string{"malformed"}},
		{"repeated field", "PUT", "/v1/tunnels/x", `{"service":"ipsec","service":"ipsec"}`, 400, []string{`"field":"service"`, "stands twice"}},
		{"unknown field", "PUT", "/v1/tunnels/x", `{"service":"ipsec","subnet":["100.64.1.0/24"]}`, 422, []string{`"field":"subnet"`, "did you mean subnets?"}},
		{"far field", "PUT", "/v1/tunnels/x", `{"service":"ipsec","colour":"red"}`, 422, []string{`"field":"colour"`, "known are id, service"}},
		{"where it was seen", "PUT", "/v1/tunnels/x", `{"service":"ipsec","roamed":["203.0.113.7"],"at":"rs1"}`, 422,
			[]string{`"field":"roamed","problem":"is told by the director, not pushed","remedy":"leave it out"`, `"field":"at"`}},
		{"a set of what was learned", "PUT", "/v1/tunnels?owner=(learned)", setBody(0), 422, []string{`"field":"owner"`, "nobody announced"}},
		{"answer's field", "PUT", "/v1/tunnels/x", `{"service":"ipsec","owner":"me"}`, 422, []string{`"field":"owner"`, "leave it out"}},
		{"wrong type", "PUT", "/v1/tunnels/x", `{"service":"ipsec","subnets":[7]}`, 422, []string{`"field":"subnets[0]"`, "is a number", "expected a string"}},
		{"null", "PUT", "/v1/tunnels/x", "null", 422, []string{"is null", "one JSON object"}},
		{"null service", "PUT", "/v1/services/x", " null ", 422, []string{"is null"}},
		{"numbers", "PUT", "/v1/tunnels/x", `{"service":"ipsec","bandwidth_bps":2.5,"generation":1e30,"labels":7,"colour":"red","subnets":["10.0.0.0/8"]}`, 422,
			[]string{"is not whole", "is written with an exponent", `"field":"labels"`, `"field":"colour"`}},
		{"both kinds of faults", "PUT", "/v1/tunnels/x", `{"service":"ipsec","subnets":["x"],"group":"-","bandwidth_bps":99999999999999}`, 422, []string{"subnets[0]", `"field":"group"`, `"field":"bandwidth_bps"`}},
		{"negative", "PUT", "/v1/tunnels/x", `{"service":"ipsec","bandwidth_bps":-1}`, 422, []string{`"field":"bandwidth_bps"`, "-1", "is negative", "0 to 18446744073709551615"}},
		{"other id", "PUT", "/v1/tunnels/x", `{"id":"y","service":"ipsec"}`, 422, []string{`"field":"id"`, "not the id in the path"}},
		{"unknown service", "PUT", "/v1/tunnels/x", `{"service":"wg"}`, 422, []string{`"field":"service"`, `"value":"wg"`, "one of ipsec"}},
		{"host bits", "PUT", "/v1/tunnels/x", `{"service":"ipsec","subnets":["100.64.0.0/24","100.64.40.33/28"]}`, 422, []string{`"field":"subnets[1]"`, "100.64.40.33/28", "write 100.64.40.32/28"}},
		{"host bits in IPv6", "PUT", "/v1/tunnels/x", `{"service":"ipsec","subnets":["2001:db8:100::1/48"]}`, 422, []string{"write 2001:db8:100::/48"}},
		{"address as subnet", "PUT", "/v1/tunnels/x", `{"service":"ipsec","subnets":["100.64.40.33"]}`, 422, []string{"lacks a length", "100.64.40.33/32"}},
		{"no prefix", "PUT", "/v1/tunnels/x", `{"service":"ipsec","subnets":["all"]}`, 422, []string{"is not a prefix"}},
		{"everything", "PUT", "/v1/tunnels/x", `{"service":"ipsec","subnets":["0.0.0.0/0"]}`, 422, []string{"whole address space"}},
		{"connected subnet", "PUT", "/v1/tunnels/x", `{"service":"ipsec","subnets":["10.99.0.0/16"]}`, 422, []string{"the director's own 10.99.0.0/24"}},
		{"covers a real server", "PUT", "/v1/tunnels/x", `{"service":"ipsec","subnets":["198.51.100.0/24"]}`, 422, []string{"real server rs1"}},
		{"covers a VIP", "PUT", "/v1/tunnels/x", `{"service":"ipsec","subnets":["192.0.2.0/24"]}`, 422, []string{"covers VIP 192.0.2.10"}},
		{"multicast endpoint", "PUT", "/v1/tunnels/x", `{"service":"ipsec","endpoints":["224.0.0.1"]}`, 422, []string{`"field":"endpoints[0]"`, "multicast"}},
		{"unspecified endpoint", "PUT", "/v1/tunnels/x", `{"service":"ipsec","endpoints":["0.0.0.0"]}`, 422, []string{"unspecified"}},
		{"loopback endpoint", "PUT", "/v1/tunnels/x", `{"service":"ipsec","endpoints":["::1"]}`, 422, []string{"loopback"}},
		{"VIP as endpoint", "PUT", "/v1/tunnels/x", `{"service":"ipsec","endpoints":["192.0.2.10"]}`, 422, []string{"is a VIP"}},
		{"real server as endpoint", "PUT", "/v1/tunnels/x", `{"service":"ipsec","endpoints":["198.51.100.11"]}`, 422, []string{"address of real server rs1"}},
		{"prefix as endpoint", "PUT", "/v1/tunnels/x", `{"service":"ipsec","endpoints":["203.0.113.0/24"]}`, 422, []string{"is a prefix"}},
		{"port 0", "PUT", "/v1/tunnels/x", `{"service":"ipsec","endpoints":["203.0.113.9:0"]}`, 422, []string{"has port 0"}},
		{"several faults", "PUT", "/v1/tunnels/x", `{"service":"ipsec","endpoints":["nowhere"],"subnets":["none"],"state":"maybe"}`, 422, []string{"endpoints[0]", "subnets[0]", `"field":"state"`}},
		{"endpoint taken", "PUT", "/v1/tunnels/x", `{"service":"ipsec","endpoints":["203.0.113.1"]}`, 409, []string{"problem:conflict", "held by tunnel site-0001"}},
		{"subnet taken", "PUT", "/v1/tunnels/x", `{"service":"ipsec","subnets":["100.64.1.0/24"]}`, 409, []string{"subnets[0]", "held by tunnel site-0001"}},
		{"more specific subnet", "PUT", "/v1/tunnels/x", `{"service":"ipsec","subnets":["100.64.1.0/25"]}`, 201, nil},
		{"port warned of", "PUT", "/v1/tunnels/x", `{"service":"ipsec","endpoints":["203.0.113.9:4500"]}`, 201, []string{`"warnings":[`}},
		{"over 1 MiB", "PUT", "/v1/tunnels/x", `{"id":"` + strings.Repeat("x", 1<<20) + `"}`, 413, []string{"/v1/tunnels/batch"}},
		{"no such path", "GET", "/v2/tunnels", "", 404, []string{"problem:not-found", "/openapi.json"}},
		{"wrong method", "POST", "/v1/tunnels/x", "", 405, []string{"method-not-allowed"}},
		{"list", "GET", "/v1/tunnels?service=ipsec&limit=1", "", 200, []string{`"id":"site-0001"`, `"total":1`, `"revision":"store1:`}},
		{"list nothing", "GET", "/v1/tunnels?owner=nms9", "", 200, []string{`"tunnels":[]`}},
		{"list of no service", "GET", "/v1/tunnels?service=wg&real_server=rs9&tenant=acme&endpoint=x&inside=y&label=%3D1", "", 422,
			[]string{`"field":"service"`, "known are ipsec", "known are rs1, rs2, rs3", "known are default", `"field":"endpoint"`, `"field":"inside"`, `"field":"label"`}},
		{"empty filters", "GET", "/v1/tunnels?label=&service=", "", 422, []string{`"field":"label"`, `"field":"service"`, "leave it out"}},
		{"default tenant", "GET", "/v1/tunnels?tenant=default", "", 200, nil},
		{"bad limit", "GET", "/v1/tunnels?limit=0", "", 422, []string{`"field":"limit"`}},
		{"unknown filter", "GET", "/v1/tunnels?servic=ipsec&state=on&limit=x&placed=", "", 422, []string{`"field":"servic"`, "known are service, real_server", "one of down, coming, up, unsaid", "a whole number from 1 to 10000", "one of yes, no, contested"}},
		{"filter twice", "GET", "/v1/tunnels?state=up&state=down", "", 422, []string{"stands twice"}},
		{"bad switch", "PUT", "/v1/tunnels?dry_run=maybe", "{}", 422, []string{`"field":"dry_run"`, "true or false"}},
		{"bad generation", "DELETE", "/v1/tunnels/x?generation=-1", "", 422, []string{`"field":"generation"`, "a whole number from 0"}},
		{"long id", "GET", "/v1/tunnels/" + strings.Repeat("x", 129), "", 422, []string{"at most 128"}},
		{"bad endpoint filter", "GET", "/v1/tunnels?endpoint=203.0.113.0/24", "", 422, []string{`"field":"endpoint"`}},
		{"bad cursor", "GET", "/v1/tunnels?cursor=%21", "", 400, []string{`"field":"cursor"`}},
		{"cursor of nothing", "GET", "/v1/tunnels?cursor=zzz", "", 400, []string{`"field":"cursor"`, "the page before"}},
		{"services", "GET", "/v1/services", "", 200, []string{`"name":"ipsec"`, `"udp/4500"`, `"tunnels":1`}},
		{"service", "GET", "/v1/services/ipsec", "", 200, []string{`"method":"dr"`}},
		{"no service", "GET", "/v1/services/wg", "", 404, nil},
		{"put service", "PUT", "/v1/services/wg", `{"vips":["192.0.2.11"],"protocols":["udp/51820"]}`, 201, []string{`"changed":true`}},
		{"service that learns", "PUT", "/v1/services/ipsec", `{"vips":["192.0.2.10"],"protocols":["esp"],"learn":true,"max_unavailable":1}`, 200, []string{`"changed":true`}},
		{"bad words of a service", "PUT", "/v1/services/wg", `{"vips":[],"protocols":[],"learn":"yes","max_unavailable":-1}`, 422,
			[]string{`"field":"learn"`, "expected true or false", `"field":"max_unavailable"`, "is negative"}},
		{"bad service", "PUT", "/v1/services/wg", `{"vips":["x"],"protocols":["udp"],"method":"nat","unknown":"?","placement":"best"}`, 422, []string{"vips[0]", "protocols[0]", "method", "unknown", "placement"}},
		{"delete service in use", "DELETE", "/v1/services/ipsec", "", 409, nil},
		{"tenants", "GET", "/v1/tenants", "", 200, []string{`"name":"default"`, "100.64.0.0/10"}},
		{"tenant", "GET", "/v1/tenants/default", "", 200, []string{`"name":"default"`}},
		{"put tenant", "PUT", "/v1/tenants/acme", `{"covers":["10.1.0.0/16"]}`, 201, nil},
		{"bad tenant", "PUT", "/v1/tenants/acme", `{"covers":["10.1.0.1/16"]}`, 422, []string{"covers[0]", "write 10.1.0.0/16"}},
		{"real servers", "GET", "/v1/realservers", "", 200, []string{`"name":"rs1"`, `"state":"alive"`, `"state":"new"`, `"rtt_us":120`}},
		{"real server", "GET", "/v1/realservers/rs3", "", 200, []string{`"state":"new"`, `"weight":100`}},
		{"put real server", "PUT", "/v1/realservers/rs4", `{"addresses":["198.51.100.14"],"services":["ipsec"],"check":"udp/500"}`, 201, nil},
		{"bad real server", "PUT", "/v1/realservers/rs4", `{"addresses":["a"],"services":["ipsec"],"check":"esp","admin":"off"}`, 422, []string{"addresses[0]", "check", "admin"}},
		{"big weight", "PATCH", "/v1/realservers/rs1", `{"weight":70000}`, 422, []string{"65535"}},
		{"weight", "PATCH", "/v1/realservers/rs1", `{"weight":0}`, 200, nil},
		{"no weight", "PATCH", "/v1/realservers/rs1", `{}`, 422, []string{`"field":"weight"`}},
		{"weight of nobody", "PATCH", "/v1/realservers/rs9", `{"weight":1}`, 404, nil},
		{"drain", "POST", "/v1/realservers/rs1/drain", "", 200, nil},
		{"undrain", "POST", "/v1/realservers/rs1/undrain", "", 200, nil},
		{"drain nobody", "POST", "/v1/realservers/rs9/drain", "", 404, nil},
		{"remove real server", "DELETE", "/v1/realservers/rs3?force=true", "", 200, nil},
		{"repin", "POST", "/v1/groups/site-0001/repin", `{"to":"rs2"}`, 200, []string{`"real_server":"rs2"`, `"why":"repinned"`}},
		{"repin nobody", "POST", "/v1/groups/@none/repin", `{"to":"rs2"}`, 404, nil},
		{"rebalance", "POST", "/v1/rebalance", `{"service":"ipsec"}`, 200, []string{`"from":"rs1","to":"rs2"`, `"moved":1`, `"complete":true`}},
		{"rebalance dry", "POST", "/v1/rebalance", `{"dry_run":true}`, 200, []string{`"planned":1,"moved":0`}},
		{"rebalance nothing", "POST", "/v1/rebalance", `{"service":"wg"}`, 404, nil},
		{"rebalance too fast", "POST", "/v1/rebalance", `{"rate_per_second":1e9}`, 422, nil},
		{"freeze", "PUT", "/v1/freeze", "", 200, []string{`"frozen":true`}},
		{"unfreeze", "DELETE", "/v1/freeze", "", 200, []string{`"frozen":false`}},
		{"status", "GET", "/v1/status", "", 200, []string{`"name":"lab"`, `"n_plus_one"`}},
		{"lookup", "GET", "/v1/lookup?src=203.0.113.1&dst=192.0.2.10&proto=esp", "", 200, []string{`"real_server":"rs1"`}},
		{"lookup nowhere", "GET", "/v1/lookup?src=x&dst=y", "", 422, []string{`"field":"src"`, `"field":"dst"`}},
		{"lookup port", "GET", "/v1/lookup?dst=192.0.2.10&dst_port=70000", "", 422, []string{"dst_port"}},
		{"lookup fragment", "GET", "/v1/lookup?dst=192.0.2.10&fragment=middle", "", 422, []string{"fragment"}},
		{"alive", "GET", "/healthz", "", 200, []string{`"ok":true`}},
		{"ready", "GET", "/readyz", "", 200, nil},
		{"metrics", "GET", "/metrics", "", 200, []string{`tunneldirector_real_server_up{real_server="rs1"} 1`, `tunneldirector_dropped_packets_total{plane="mem",reason="unknown"} 3`, "tunneldirector_ready 1"}},
		{"watch another store", "GET", "/v1/watch?since=store9:1", "", 410, []string{"problem:gone", "GET /v1/tunnels"}},
		{"watch the future", "GET", "/v1/watch?since=store1:999999", "", 410, nil},
		{"watch nonsense", "GET", "/v1/watch?since=yesterday", "", 422, []string{`"field":"since"`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := furnished()
			srv := serve(t, l, Options{})
			if code, _, data := ask(t, srv, "PUT", "/v1/tunnels/site-0001", `{"service":"ipsec","endpoints":["203.0.113.1"],"subnets":["100.64.1.0/24"]}`); code != 201 {
				t.Fatalf("put site-0001: %d %s", code, data)
			}
			code, h, data := ask(t, srv, tt.method, tt.path, tt.body)
			if code != tt.status {
				t.Errorf("status %d, want %d", code, tt.status)
			}
			if code >= 400 {
				if ct := h.Get("Content-Type"); ct != "application/problem+json" {
					t.Errorf("content type %q", ct)
				}
				if p := decodeInto[Problem](t, data); p.Status != code || p.Type == "" || p.Title == "" {
					t.Errorf("problem lacks status, type or title: %+v", p)
				}
			}
			for _, want := range tt.contains {
				if !strings.Contains(string(data), want) {
					t.Errorf("no %s", want)
				}
			}
			if t.Failed() {
				t.Logf("answer: %s", data)
			}
		})
	}
}

func TestPutIsIdempotent(t *testing.T) {
	srv := serve(t, furnished(), Options{})
	for i, want := range []struct {
		status  int
		changed bool
	}{{201, true}, {200, false}, {200, false}} {
		code, _, data := ask(t, srv, "PUT", "/v1/tunnels/site-0042", site42)
		if got := decodeInto[PutAnswer](t, data); code != want.status || got.Changed != want.changed {
			t.Errorf("push %d: status %d, changed %v, want %v", i, code, got.Changed, want)
		}
	}
}

func TestGeneration(t *testing.T) {
	srv := serve(t, furnished(), Options{})
	put := func(gen string) int {
		code, _, _ := ask(t, srv, "PUT", "/v1/tunnels/a", `{"service":"ipsec","generation":`+gen+`}`)
		return code
	}
	if got := []int{put("5"), put("4"), put("5"), put("0"), put("6")}; got[0] != 201 || got[1] != 412 || got[2] != 200 || got[3] != 200 || got[4] != 200 {
		t.Errorf("statuses %v", got)
	}
	if code, _, data := ask(t, srv, "DELETE", "/v1/tunnels/a?generation=3", ""); code != 412 {
		t.Errorf("late delete: %d %s", code, data)
	}
}

func TestFullDisk(t *testing.T) {
	l := furnished()
	srv := serve(t, l, Options{})
	l.full = true
	code, h, data := ask(t, srv, "PUT", "/v1/tunnels/a", `{"service":"ipsec"}`)
	if code != 507 || h.Get("Retry-After") == "" || !strings.Contains(string(data), "the disk is full") {
		t.Errorf("%d, Retry-After %q, %s", code, h.Get("Retry-After"), data)
	}
	if code, _, _ := ask(t, srv, "GET", "/v1/tunnels", ""); code != 200 {
		t.Errorf("reading: %d", code)
	}
}

func TestNotReady(t *testing.T) {
	l := furnished()
	srv := serve(t, l, Options{})
	l.ready = false
	if code, _, data := ask(t, srv, "GET", "/readyz", ""); code != 503 || !strings.Contains(string(data), "the store is empty") {
		t.Errorf("%d %s", code, data)
	}
}

// Lists are never null.
func TestStatusOfNothing(t *testing.T) {
	var st Status
	st.fill()
	data, err := json.Marshal(st)
	if err != nil || strings.Contains(string(data), "null") {
		t.Errorf("%v %s", err, data)
	}
}

// A push that is durable but not in the kernel says so.
func TestNotProgrammed(t *testing.T) {
	l := furnished()
	l.behind = true
	srv := serve(t, l, Options{})
	if code, _, data := ask(t, srv, "PUT", "/v1/tunnels/a", `{"service":"ipsec"}`); code != 201 || !strings.Contains(string(data), `"programmed":[]`) {
		t.Errorf("%d %s", code, data)
	}
}
