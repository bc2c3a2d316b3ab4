package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"golang.org/x/sync/errgroup"
)

// Options are what a Server is told once.
type Options struct {
	Name             string // of the director; it is what pushes are told to be programmed on
	Version          string
	Tokens           Tokens // nil: unix sockets and loopback only, whose callers are operators
	Log              *slog.Logger
	MaxDeletePercent int // of an owner's tunnels that complete sets may delete in 24 h; 0: 10
	MaxSetLines      int // of a complete set, which is in memory while it is compared, half a KiB a line; 0: 2,000,000
	MaxConnections   int // on each listener; 0: 1,000
	Heartbeat        time.Duration
	Examiner         Examiner                    // nil: GET /v1/doctor and /v1/lookup/all do not exist
	Journal          Journal                     // nil: no events are kept
	Drills           Drills                      // nil: /v1/faults does not exist
	BlackBox         BlackBox                    // nil: /v1/blackbox and /v1/packets do not exist
	Certificates     func() map[string]time.Time // when they end, by what they are for; nil: none is told
}

// Limits that no one needs to change.
const (
	maxObject     = 1 << 20          // bytes of a single object, and of one line of a stream
	objectTimeout = 10 * time.Second // for a single object to come
	drainTimeout  = time.Second      // for what is left of a body that nobody reads
	idleTimeout   = 2 * time.Minute  // of a stream's body: time to the next bytes
	writeTimeout  = 30 * time.Second // of a stream's answer: a client that does not read is given up
	stopTimeout   = 10 * time.Second
	setPatience   = 30 * time.Second // that a complete set waits for another one: only one is in memory
)

// A Server is the HTTP interface of a director.
type Server struct {
	d       Director
	o       Options
	mux     *http.ServeMux
	huma    huma.API
	metrics http.Handler
	sets    chan struct{} // holds one token while a complete set is taken in
	audits  chan struct{} // holds one token while the data plane is compared
	exams   chan struct{} // holds one token while the Examiner looks
}

// New makes the interface; it touches nothing. The Server is an http.Handler.
func New(d Director, o Options) *Server {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.MaxDeletePercent == 0 {
		o.MaxDeletePercent = 10
	}
	if o.MaxSetLines == 0 {
		o.MaxSetLines = 2_000_000
	}
	if o.MaxConnections == 0 {
		o.MaxConnections = 1000
	}
	if o.Heartbeat == 0 {
		o.Heartbeat = 15 * time.Second
	}
	s := &Server{d: d, o: o, mux: http.NewServeMux(), metrics: metricsHandler(d, o), sets: make(chan struct{}, 1), audits: make(chan struct{}, 1), exams: make(chan struct{}, 1)}
	s.huma = humago.New(s.mux, humaConfig(o.Version))
	s.huma.UseMiddleware(s.authorize)
	s.registerTunnels()
	s.registerStreams()
	s.registerConfig()
	s.registerRealServers()
	s.registerOperations()
	s.registerPlane()
	s.registerStatus()
	s.registerDoctor()
	s.registerSeen()
	s.registerEvents()
	s.registerCluster()
	s.registerTable()
	s.registerDrills()
	s.registerBlackBox()
	s.serveOpenAPI()
	return s
}

// ServeHTTP answers a request. What reaches no operation gets a problem document too.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer s.recover(w, r)
	if r.ContentLength != 0 {
		var done func()
		r, done = arrive(w, r)
		defer done()
	}
	if p := s.guardBrowser(r); p != nil {
		s.o.Log.Warn("request refused", "method", r.Method, "path", r.URL.Path, "remote", r.RemoteAddr, "host", r.Host, "status", p.Status)
		refuse(w, r, p)
		return
	}
	h, pattern := s.mux.Handler(r)
	if pattern != "" {
		s.mux.ServeHTTP(w, r)
		return
	}
	probe := statusProbe{header: http.Header{}}
	h.ServeHTTP(&probe, r)
	if probe.status != http.StatusMethodNotAllowed {
		refuse(w, r, problem(http.StatusNotFound, kindNotFound, "no such path: "+clip(r.URL.Path)+"; /openapi.json lists them all"))
		return
	}
	allow := probe.header.Get("Allow")
	w.Header().Set("Allow", allow)
	refuse(w, r, problem(http.StatusMethodNotAllowed, "method-not-allowed", r.Method+" is not for this path; "+allow+" are"))
}

// A statusProbe takes an answer's status and header, to say the same in a problem document.
type statusProbe struct {
	header http.Header
	status int
}

// The methods of an http.ResponseWriter.
func (p *statusProbe) Header() http.Header         { return p.header }
func (p *statusProbe) WriteHeader(status int)      { p.status = status }
func (p *statusProbe) Write(b []byte) (int, error) { return len(b), nil }

// Metrics answers GET /metrics alone, for a listener of its own.
func (s *Server) Metrics() http.Handler { return s.metrics }

// recover keeps one broken request from ending the daemon, whose kernel state does not depend on it.
func (s *Server) recover(w http.ResponseWriter, r *http.Request) {
	v := recover()
	if v == nil {
		return
	}
	if v == http.ErrAbortHandler {
		panic(v)
	}
	s.o.Log.Error("request failed", "method", r.Method, "path", r.URL.Path, "error", fmt.Sprint(v))
	writeProblem(w, problem(http.StatusInternalServerError, kindInternal, "the director failed on this request; its log says more"))
}

func writeProblem(w http.ResponseWriter, p *Problem) {
	for k, v := range p.GetHeaders() {
		w.Header()[k] = v
	}
	w.Header().Set("Content-Type", p.ContentType(""))
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // the client may be gone
}

type servingKey struct{}

// serving ends when the server shuts down; nil: it never does.
func serving(ctx context.Context) context.Context {
	server, _ := ctx.Value(servingKey{}).(context.Context)
	return server
}

// stopping is closed when the server shuts down: streams then end in good order.
func stopping(ctx context.Context) <-chan struct{} {
	if server := serving(ctx); server != nil {
		return server.Done()
	}
	return nil
}

// Serve answers on listeners until ctx ends, then lets running requests finish for 10 s. It closes the listeners.
// Without tokens it serves unix sockets and loopback addresses only.
func (s *Server) Serve(ctx context.Context, listeners []net.Listener) error {
	for _, l := range listeners {
		if a, ok := l.Addr().(*net.TCPAddr); ok && s.o.Tokens == nil && !a.IP.IsLoopback() {
			closeAll(listeners)
			return fmt.Errorf("serve the API on %s: without tokens only loopback and unix sockets are served; configure a token file", a)
		}
	}
	g, gctx := errgroup.WithContext(ctx)
	for _, l := range listeners {
		l := newLimited(l, s.o.MaxConnections, s.o.Log)
		srv := s.httpServer(ctx, l)
		g.Go(func() error {
			if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("serve the API on %s: %w", l.Addr(), err)
			}
			return nil
		})
		g.Go(func() error {
			<-gctx.Done()
			grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
			defer cancel()
			if err := srv.Shutdown(grace); err != nil {
				return srv.Close()
			}
			return nil
		})
	}
	return g.Wait()
}

// httpServer serves one listener; requests learn that ctx ended, and are not cancelled by it.
func (s *Server) httpServer(ctx context.Context, l *limited) *http.Server {
	return &http.Server{
		Handler:           s,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(s.o.Log.Handler(), slog.LevelWarn),
		ConnState:         l.state,
		BaseContext: func(net.Listener) context.Context {
			return context.WithValue(context.WithoutCancel(ctx), servingKey{}, ctx)
		},
	}
}

func closeAll(listeners []net.Listener) {
	for _, l := range listeners {
		_ = l.Close()
	}
}

// readObject reads a single object's body.
func readObject(ctx context.Context, into any) error {
	there, err := readOptional(ctx, into)
	if err == nil && !there {
		return problem(http.StatusBadRequest, kindMalformed, "the body is empty", FieldError{Problem: "is empty", Remedy: "one JSON object"})
	}
	return err
}

// readOptional reads a body that may be left out.
func readOptional(ctx context.Context, into any) (there bool, err error) {
	r, w := requestOf(ctx)
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxObject))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return false, problem(http.StatusRequestEntityTooLarge, kindTooLarge, fmt.Sprintf("the body is over %d bytes", maxObject),
			FieldError{Problem: "too large", Remedy: "send many tunnels to POST /v1/tunnels/batch, one a line"})
	case err != nil:
		return false, bodyProblem(ctx, err)
	case len(bytes.TrimSpace(data)) == 0:
		return false, nil
	}
	if p := decode(data, into); p != nil {
		return true, p
	}
	return true, nil
}

type requestKey struct{}

type exchange struct {
	r *http.Request
	w http.ResponseWriter
}

func unwrap(ctx huma.Context) (*http.Request, http.ResponseWriter) { return humago.Unwrap(ctx) }

// requestOf is the HTTP exchange of an operation that reads its body itself.
func requestOf(ctx context.Context) (*http.Request, http.ResponseWriter) {
	e, ok := ctx.Value(requestKey{}).(exchange)
	if !ok {
		panic("not an operation of this package")
	}
	return e.r, e.w
}
