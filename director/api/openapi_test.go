package api

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"
)

// The routes that are promised.
var routes = []string{
	"GET /v1/tunnels/{id}", "PUT /v1/tunnels/{id}", "DELETE /v1/tunnels/{id}", "GET /v1/tunnels", "PUT /v1/tunnels", "POST /v1/tunnels/batch",
	"GET /v1/watch", "GET /v1/lookup", "GET /v1/status", "GET /healthz", "GET /readyz", "GET /metrics",
	"GET /v1/realservers", "GET /v1/realservers/{name}", "PUT /v1/realservers/{name}", "DELETE /v1/realservers/{name}", "PATCH /v1/realservers/{name}",
	"POST /v1/realservers/{name}/drain", "POST /v1/realservers/{name}/undrain",
	"GET /v1/services", "GET /v1/services/{name}", "PUT /v1/services/{name}", "DELETE /v1/services/{name}",
	"GET /v1/tenants", "GET /v1/tenants/{name}", "PUT /v1/tenants/{name}", "DELETE /v1/tenants/{name}",
	"POST /v1/groups/{id}/repin", "POST /v1/rebalance", "GET /v1/plane/pairs", "POST /v1/plane/audit", "POST /v1/check", "PUT /v1/freeze", "DELETE /v1/freeze",
	"GET /v1/seen", "GET /v1/orders",
	"GET /v1/events",
	"GET /v1/table", "PUT /v1/table",
	"GET /v1/cluster", "POST /v1/cluster/leave", "POST /v1/cluster/forget/{name}", "GET /v1/cluster/keyring", "POST /v1/cluster/keyring",
}

type description struct {
	OpenAPI    string
	Info       struct{ Title, Version string }
	Paths      map[string]map[string]json.RawMessage
	Components struct {
		Schemas map[string]json.RawMessage
	}
}

func TestOpenAPI(t *testing.T) {
	srv := serve(t, furnished(), Options{Version: "1.2.3"})
	code, h, data := ask(t, srv, "GET", "/openapi.json", "")
	if code != 200 || h.Get("Content-Type") != "application/openapi+json" {
		t.Fatalf("%d %s", code, h.Get("Content-Type"))
	}
	var d description
	if err := json.Unmarshal(data, &d); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(d.OpenAPI, "3.1.") || d.Info.Title == "" || d.Info.Version != "1.2.3" {
		t.Errorf("openapi %q, info %+v", d.OpenAPI, d.Info)
	}
	var got []string
	ids := map[string]bool{}
	for path, item := range d.Paths {
		for method, raw := range item {
			route := strings.ToUpper(method) + " " + path
			got = append(got, route)
			checkOperation(t, route, raw, ids)
		}
	}
	slices.Sort(got)
	want := slices.Sorted(slices.Values(routes))
	if !slices.Equal(got, want) {
		t.Errorf("described are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	checkRefs(t, data, d)
}

func checkOperation(t *testing.T, route string, raw json.RawMessage, ids map[string]bool) {
	t.Helper()
	var op struct {
		OperationID string
		Summary     string
		Parameters  []struct {
			Name, In string
			Required bool
			Schema   json.RawMessage
		}
		RequestBody *struct {
			Content map[string]struct{ Schema json.RawMessage }
		}
		Responses map[string]struct {
			Description string
			Content     map[string]struct{ Schema json.RawMessage }
		}
		Security []map[string][]string
	}
	if err := json.Unmarshal(raw, &op); err != nil {
		t.Errorf("%s: %v", route, err)
		return
	}
	if op.OperationID == "" || ids[op.OperationID] || op.Summary == "" {
		t.Errorf("%s: operation id %q is empty or not unique, or there is no summary", route, op.OperationID)
	}
	ids[op.OperationID] = true
	for _, part := range strings.Split(route, "/") {
		if name, ok := strings.CutPrefix(part, "{"); ok {
			name = strings.TrimSuffix(name, "}")
			if !slices.ContainsFunc(op.Parameters, func(p struct {
				Name, In string
				Required bool
				Schema   json.RawMessage
			}) bool {
				return p.Name == name && p.In == "path" && p.Required && len(p.Schema) > 0
			}) {
				t.Errorf("%s: path parameter %s is not described", route, name)
			}
		}
	}
	if _, ok := op.Responses["default"].Content["application/problem+json"]; !ok {
		t.Errorf("%s: problems are not described", route)
	}
	if ok := op.Responses["200"]; ok.Description == "" || len(ok.Content) == 0 {
		t.Errorf("%s: success is not described", route)
	}
	open := route == "GET /healthz" || route == "GET /readyz"
	if open != (len(op.Security) == 0) {
		t.Errorf("%s: security %v", route, op.Security)
	}
	method, _, _ := strings.Cut(route, " ")
	if wants := method == "PATCH" || method == "PUT" && route != "PUT /v1/freeze"; wants && op.RequestBody == nil {
		t.Errorf("%s: the body is not described", route)
	}
}

// checkRefs tells whether every reference leads to a schema, and every schema is referred to.
func checkRefs(t *testing.T, data []byte, d description) {
	t.Helper()
	used := map[string]bool{}
	for _, part := range strings.Split(string(data), `"$ref": "`)[1:] {
		ref, _, _ := strings.Cut(part, `"`)
		name, ok := strings.CutPrefix(ref, "#/components/schemas/")
		if !ok || d.Components.Schemas[name] == nil {
			t.Errorf("%s leads nowhere", ref)
		}
		used[name] = true
	}
	for name := range d.Components.Schemas {
		if !used[name] {
			t.Errorf("schema %s is not used", name)
		}
	}
}

func TestOpenAPIAsYAML(t *testing.T) {
	srv := serve(t, furnished(), Options{})
	code, _, data := ask(t, srv, "GET", "/openapi.yaml", "")
	if code != 200 || !strings.Contains(string(data), "/v1/tunnels/{id}:") {
		t.Errorf("%d %.200s", code, data)
	}
}

// Every operation asks for a role, or says that it needs none.
func TestEveryOperationSaysWhoMay(t *testing.T) {
	s := New(furnished(), Options{})
	for path, item := range s.huma.OpenAPI().Paths {
		for _, op := range []*huma.Operation{item.Get, item.Put, item.Post, item.Patch, item.Delete} {
			if op == nil {
				continue
			}
			need, ok := op.Metadata[needsKey].(needs)
			if !ok || need != needsNothing && allowed[need] == nil {
				t.Errorf("%s %s: needs %q", op.Method, path, need)
			}
		}
	}
}
