package api

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"
)

// described tells whether an answer is as the description says.
func described(t testing.TB, s *Server, method, target string, status int, h http.Header, data []byte) {
	t.Helper()
	path, _, _ := strings.Cut(target, "?")
	op := operationAt(s, method, path)
	if op == nil {
		return // no such path: a problem of none
	}
	res, ok := op.Responses[strconv.Itoa(status)]
	if !ok && status >= 400 {
		res, ok = op.Responses["default"]
	}
	if !ok {
		t.Errorf("%s %s: status %d is not described", method, target, status)
		return
	}
	media, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	content := res.Content[media]
	if content == nil {
		t.Errorf("%s %s: %d with %s is not described", method, target, status, media)
		return
	}
	switch media {
	case "application/json", "application/problem+json":
		fits(t, s, content.Schema, string(data))
	case "application/x-ndjson":
		for line := range strings.Lines(string(data)) {
			fits(t, s, content.Schema, line)
		}
	}
}

func operationAt(s *Server, method, path string) *huma.Operation {
	have := strings.Split(path, "/")
	for _, template := range []string{path, ""} { // a literal path goes before a pattern
		for p, item := range s.huma.OpenAPI().Paths {
			parts := strings.Split(p, "/")
			same := slices.EqualFunc(parts, have, func(a, b string) bool { return a == b || template == "" && strings.HasPrefix(a, "{") })
			if same {
				return map[string]*huma.Operation{"GET": item.Get, "PUT": item.Put, "POST": item.Post, "PATCH": item.Patch, "DELETE": item.Delete}[method]
			}
		}
	}
	return nil
}

func misfits(s *Server, schema *huma.Schema, data string) []error {
	var v any
	if err := json.Unmarshal([]byte(data), &v); err != nil {
		return []error{err}
	}
	res := &huma.ValidateResult{}
	huma.Validate(s.huma.OpenAPI().Components.Schemas, schema, huma.NewPathBuffer(nil, 0), huma.ModeReadFromServer, v, res)
	return res.Errors
}

func fits(t testing.TB, s *Server, schema *huma.Schema, data string) {
	t.Helper()
	for _, err := range misfits(s, schema, data) {
		t.Errorf("not as described: %v: %.300s", err, data)
	}
}

// What may be pushed is described, and what may not is not.
func TestBodiesAreDescribed(t *testing.T) {
	s := New(furnished(), Options{})
	for _, tt := range []struct {
		method, path, body string
		ok                 bool
	}{
		{"PUT", "/v1/tunnels/site-0042", site42, true},
		{"PUT", "/v1/tunnels/site-0042", `{"service":"ipsec","bandwidth_bps":10000000000001}`, false},
		{"PUT", "/v1/tunnels/site-0042", `{"service":"ipsec","colour":"red"}`, false},
		{"POST", "/v1/tunnels/batch", tunnelLine(1), true},
		{"POST", "/v1/tunnels/batch", `{"delete":"q1"}`, true},
		{"POST", "/v1/tunnels/batch", `{"delete":"q1","generation":3}`, true},
		{"POST", "/v1/tunnels/batch", `{"delete":"q1","service":"ipsec"}`, false},
		{"POST", "/v1/tunnels/batch", `{"service":"ipsec"}`, false},
		{"POST", "/v1/tunnels/batch", `{"count":1}`, false},
		{"PUT", "/v1/tunnels", `{"count":1}`, true},
		{"PUT", "/v1/tunnels", `{"count":1,"generation":7}`, true},
		{"PUT", "/v1/tunnels", `{"count":null}`, false},
		{"PUT", "/v1/tunnels", `{"delete":"q1"}`, false},
		{"PUT", "/v1/tunnels", tunnelLine(1), true},
		{"PUT", "/v1/tunnels/site-0042", `{"service":"ipsec","roamed":["203.0.113.7"]}`, false},
		{"POST", "/v1/realservers/rs1/drain", `{"rate":"20/s","deadline":"2h"}`, true},
		{"POST", "/v1/realservers/rs1/drain", `{"rate":0.5}`, true},
		{"POST", "/v1/realservers/rs1/drain", `{"rate":1001}`, false},
		{"POST", "/v1/realservers/rs1/drain", `{"rate":true}`, false},
		{"POST", "/v1/realservers/rs1/drain", `{"speed":1}`, false},
	} {
		for media, content := range operationAt(s, tt.method, tt.path).RequestBody.Content {
			if errs := misfits(s, content.Schema, tt.body); (len(errs) == 0) != tt.ok {
				t.Errorf("%s %s %s as %s: %v", tt.method, tt.path, tt.body, media, errs)
			}
		}
	}
}
