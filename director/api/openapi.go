package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"sync"

	"github.com/danielgtaylor/huma/v2"
)

func humaConfig(version string) huma.Config {
	c := huma.DefaultConfig("Tunnel Director", version)
	c.Info.Description = "Which real server owns which tunnel. A tunnel is pushed with its endpoints and subnets, placed, and put into the kernel before its first packet."
	c.Info.License = &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"}
	c.OpenAPIPath, c.DocsPath, c.SchemasPath = "", "", "" // served by serveOpenAPI; no page that loads scripts from elsewhere
	c.CreateHooks = nil                                   // no $schema in answers
	c.Transformers = []huma.Transformer{ownProblems}
	c.RejectUnknownQueryParameters = true
	c.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"token": {Type: "http", Scheme: "bearer", Description: "roles nms, operator, drill, read; none is needed on the unix socket"},
	}
	return c
}

// An op is an operation's entry in the description.
type op struct {
	id, method, path string
	summary          string
	needs            needs
	body             any    // a value of the body's type; nil: none
	optional         bool   // the body may be left out
	lines            []any  // or values of the types of an NDJSON body's lines
	created          bool   // it may answer 201
	answerType       string // of a streamed answer
	answer           any    // one line of a streamed answer
	status           int    // of success

	// query adds what is wrong with a query beside what its parameters' descriptions say; nil: nothing is.
	query func(url.Values, *faults)
}

// register adds an operation. Its body, if it has one, is read by the handler: readObject, or a stream.
func register[I, O any](s *Server, o op, handler func(context.Context, *I) (*O, error)) {
	operation := huma.Operation{
		OperationID: o.id, Method: o.method, Path: o.path, Summary: o.summary, DefaultStatus: o.status,
		Metadata: map[string]any{needsKey: o.needs}, SkipValidateBody: true,
		Middlewares: huma.Middlewares{func(ctx huma.Context, next func(huma.Context)) {
			r, w := unwrap(ctx)
			f := paramFaults(ctx.Operation(), r.URL.Query())
			if o.query != nil {
				o.query(r.URL.Query(), &f)
			}
			if p := f.problem("the query"); p != nil {
				endWithAnswer(w, r)
				writeProblem(w, p)
				return
			}
			next(huma.WithValue(ctx, requestKey{}, exchange{r, w}))
		}},
	}
	if o.needs != needsNothing {
		operation.Security = []map[string][]string{{"token": {}}}
		operation.Description = fmt.Sprintf("Roles: %v.", allowed[o.needs])
	}
	huma.Register(s.huma, operation, handler)
	s.describe(o)
}

// describe adds what huma cannot know of handlers that read and write for themselves.
func (s *Server) describe(o op) {
	item := s.huma.OpenAPI().Paths[o.path]
	entry := map[string]*huma.Operation{
		http.MethodGet: item.Get, http.MethodPut: item.Put, http.MethodPost: item.Post, http.MethodPatch: item.Patch, http.MethodDelete: item.Delete,
	}[o.method]
	schemas := s.huma.OpenAPI().Components.Schemas
	if o.body != nil {
		entry.RequestBody = &huma.RequestBody{Required: !o.optional, Content: map[string]*huma.MediaType{
			"application/json": {Schema: schemas.Schema(reflect.TypeOf(o.body), true, o.id)},
		}}
	}
	if len(o.lines) > 0 {
		oneOf := &huma.Schema{}
		for _, l := range o.lines {
			oneOf.OneOf = append(oneOf.OneOf, schemas.Schema(reflect.TypeOf(l), true, o.id))
		}
		entry.RequestBody = &huma.RequestBody{Required: true, Description: "One JSON object a line.", Content: map[string]*huma.MediaType{
			"application/x-ndjson": {Schema: oneOf},
		}}
	}
	if o.answerType != "" {
		content := &huma.MediaType{Schema: &huma.Schema{Type: "string"}}
		if o.answer != nil {
			content.Schema = schemas.Schema(reflect.TypeOf(o.answer), true, o.id)
		}
		entry.Responses["200"] = &huma.Response{Description: "OK", Content: map[string]*huma.MediaType{o.answerType: content}}
	}
	if o.created {
		entry.Responses["201"] = &huma.Response{Description: "Created", Content: entry.Responses["200"].Content}
	}
	if o.answerType == "text/plain" { // what gathers the metrics answers for itself
		entry.Responses["500"] = &huma.Response{Description: "They cannot be told", Content: entry.Responses["200"].Content}
	}
	entry.Responses["default"] = &huma.Response{Description: "A problem", Content: map[string]*huma.MediaType{
		"application/problem+json": {Schema: schemas.Schema(reflect.TypeFor[Problem](), true, "Problem")},
	}}
}

// serveOpenAPI serves the description to anyone. It is made when first asked for, from what New registered.
func (s *Server) serveOpenAPI() {
	doc := s.huma.OpenAPI()
	delete(doc.Components.Schemas.Map(), "ErrorModel") // huma's own, never sent
	delete(doc.Components.Schemas.Map(), "ErrorDetail")
	serve := func(path, media string, encode func() ([]byte, error)) {
		once := sync.OnceValues(encode)
		s.mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			data, err := once()
			if err != nil {
				writeProblem(w, problem(http.StatusInternalServerError, kindInternal, "describe the API: "+err.Error()))
				return
			}
			w.Header().Set("Content-Type", media)
			_, _ = w.Write(data) // the client may be gone
		})
	}
	serve("/openapi.json", "application/openapi+json", func() ([]byte, error) { return json.MarshalIndent(doc, "", " ") })
	serve("/openapi.yaml", "application/openapi+yaml", doc.YAML)
}
