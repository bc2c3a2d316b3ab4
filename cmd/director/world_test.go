package main

import (
	"context"
	"io"
	"log/slog"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tunneldirector/affinity"
	"tunneldirector/cmd/console"
	"tunneldirector/cmd/console/consoletest"
	td "tunneldirector/director"
	"tunneldirector/director/api"
	"tunneldirector/director/config"
	"tunneldirector/director/observe"
	"tunneldirector/director/plane"
	"tunneldirector/director/plane/mem"
)

// disk is a Store in memory.
type disk struct {
	mu       sync.Mutex
	records  map[string]affinity.Change
	revision uint64
}

func (s *disk) Load(f func(affinity.Change) error) error {
	for _, k := range slices.Sorted(maps.Keys(s.records)) {
		if err := f(s.records[k]); err != nil {
			return err
		}
	}
	return nil
}

func (s *disk) Commit(changes []affinity.Change, revision uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range changes {
		if k := string(c.Kind) + c.Key; c.Value == nil {
			delete(s.records, k)
		} else {
			s.records[k] = c
		}
	}
	s.revision = revision
	return nil
}

func (s *disk) Identity() (string, uint64) { return "store-1", s.revision }
func (s *disk) State() td.StoreState       { return td.StoreState{Used: 3 << 20, Free: 5 << 30} }

// world is a real director over the mem plane, and its API on a unix socket.
type world struct {
	t      *testing.T
	d      *td.Director
	agents *observe.Book
	server *api.Server
	socket string
	hangUp func() // ends the API, not the director
}

func newWorld(t *testing.T) *world { return newWorldOver(t, newMem()) }

func newMem() *mem.Plane {
	return mem.New([]plane.Interface{{Name: "out", Roles: plane.RoleTunnel}, {Name: "in", Roles: plane.RoleSubnet}, {Name: "rs", Roles: plane.RoleRealServers}})
}

func newWorldOver(t *testing.T, p plane.Plane) *world {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	stored, err := td.Load(&disk{records: map[string]affinity.Change{}})
	if err != nil {
		t.Fatal(err)
	}
	book := observe.NewBook(nil)
	d, err := td.Open(ctx, stored, td.Options{Agents: book, Name: "d1", Version: "1.2.3", Plane: p, PlaneKind: "mem",
		Host: nowhere{}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	exam := newExaminer(config.Config{Name: "d1"}, d, &kernel{}, agents{book: book}, nil, nil, nil)
	w := &world{t: t, d: d, agents: book, server: api.New(d, api.Options{Name: "d1", Version: "1.2.3", Examiner: exam}), socket: filepath.Join(t.TempDir(), "api.sock")}
	w.listen()
	t.Cleanup(func() {
		w.hangUp()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *world) listen() {
	w.t.Helper()
	l, err := net.Listen("unix", w.socket)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.server.Serve(ctx, []net.Listener{l}) }()
	w.hangUp = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	})
}

const furniture = `
services:
- {name: ipsec, vips: [192.0.2.10], protocols: [esp, udp/500, udp/4500]}
tenants:
- {name: default, covers: [100.64.0.0/10]}
real_servers:
- {name: rs1, addresses: [198.51.100.11], services: [ipsec], host: node-a, zone: z1, capacity: 5000}
- {name: rs2, addresses: [198.51.100.12], services: [ipsec], host: node-b, zone: z2, weight: 200}
- {name: rs3, addresses: [198.51.100.13], services: [ipsec], host: node-c, check: {udp: 500}}
`

// furnished has a service, a tenant and three real servers that are alive.
func furnished(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.feed(furniture, "apply", "-").Exits(console.ExitOK)
	for _, name := range []string{"rs1", "rs2", "rs3"} {
		w.verdict(name, true)
	}
	return w
}

// verdict makes a real server alive or dead, and waits for it.
func (w *world) verdict(name string, alive bool) {
	w.t.Helper()
	w.d.Report(w.t.Context(), td.Verdict{RealServer: name, Alive: alive, Cause: "said so"})
	for limit := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		if l, ok := w.d.Table().LifeOf(name); ok && l.Alive == alive {
			return
		}
		if time.Now().After(limit) {
			w.t.Fatalf("real server %s did not become alive=%v", name, alive)
		}
	}
}

func (w *world) run(args ...string) consoletest.Ran { w.t.Helper(); return w.feed("", args...) }

// feed runs a command with something on its standard input.
func (w *world) feed(stdin string, args ...string) consoletest.Ran {
	w.t.Helper()
	return runIn(w.t.Context(), w.t, strings.NewReader(stdin), nil, append([]string{"--socket", w.socket}, args...)...)
}

// runIn runs a command line as main does.
func runIn(ctx context.Context, t *testing.T, stdin io.Reader, vars map[string]string, args ...string) consoletest.Ran {
	env := &console.Env{Stdin: stdin, Getenv: func(k string) string { return vars[k] }, IsTerminal: func(io.Writer) bool { return false }, Now: time.Now}
	return consoletest.Run(t, env, args, func() int { return report(env, director(ctx, env, args)) })
}
