package director

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tunneldirector/affinity"
	"tunneldirector/director/observe"
	"tunneldirector/director/plane"
	"tunneldirector/director/plane/mem"
)

// disk is a Store that a test can make refuse.
type disk struct {
	mu       sync.Mutex
	records  map[string]affinity.Change
	revision uint64
	full     error
	slow     time.Duration // of each commit
	commits  []int         // how many records each had
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
	slow := s.slow
	s.mu.Unlock()
	time.Sleep(slow)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.full != nil {
		return s.full
	}
	for _, c := range changes {
		if k := string(c.Kind) + c.Key; c.Value == nil {
			delete(s.records, k)
		} else {
			s.records[k] = c
		}
	}
	s.revision = revision
	s.commits = append(s.commits, len(changes))
	return nil
}

// pause makes commits slow.
func (s *disk) pause(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.slow = d
}

func (s *disk) refuse(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.full = err
}

func (s *disk) Identity() (string, uint64) { return "store-1", s.revision }
func (s *disk) State() StoreState          { return StoreState{} }

// machine is a Host and a Prober whose answers a test sets.
type machine struct {
	mu        sync.Mutex
	linkDown  bool
	answering int
	targets   []Target
	verdicts  map[string]Verdict
	held      Held
	again     []netip.Addr                // of which neighbours were to be told again
	hold      func(context.Context) error // nil: nothing fails
}

func (m *machine) Local([]netip.Addr) ([]netip.Addr, []netip.Prefix, error) {
	return []netip.Addr{netip.MustParseAddr("198.51.100.254")}, []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}, nil
}
func (m *machine) Hold(ctx context.Context, h Held) error {
	m.mu.Lock()
	m.held, m.again = h, append(m.again, h.Again...)
	fails := m.hold
	m.mu.Unlock()
	if fails != nil {
		return fails(ctx)
	}
	return nil
}
func (m *machine) LinksUp() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !m.linkDown
}
func (m *machine) Watch(t []Target) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.targets = t
}
func (m *machine) Answering() (int, int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.answering, len(m.targets)
}
func (m *machine) Verdicts() []Verdict {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Values(m.verdicts))
}
func (m *machine) Probed(string) (string, time.Duration) { return "no answer to ARP", 0 }

func (m *machine) set(f func(*machine)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f(m)
}

var interfaces = []plane.Interface{{Name: "out", Roles: plane.RoleTunnel}, {Name: "in", Roles: plane.RoleSubnet}, {Name: "rs", Roles: plane.RoleRealServers}}

// world is a director in a bubble of virtual time.
type world struct {
	t        *testing.T
	d        *Director
	disk     *disk
	host     *machine
	plane    *mem.Plane
	over     plane.Plane // nil: plane itself
	supplant func(context.Context) (bool, error)
	agents   *observe.Book
	skew     atomic.Int64 // of the director's clock, nanoseconds
	kept     diary
	log      *slog.Logger // nil: nobody reads it
	stop     func()
}

var operator = affinity.Actor{Name: "op", Any: true}

// inWorld runs f with a running director over an empty disk.
func inWorld(t *testing.T, f func(w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, disk: &disk{records: map[string]affinity.Change{}}, host: &machine{answering: 9}, plane: mem.New(interfaces)}
		w.agents = observe.NewBook(func() time.Time { return time.Now().Add(time.Duration(w.skew.Load())) })
		w.start()
		f(w)
		w.stop()
	})
}

func (w *world) start() {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	w.open(ctx)
	done := make(chan error, 1)
	go func() { done <- w.d.Run(ctx) }()
	w.stop = func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	}
}

// open reads the disk and programs the plane.
func (w *world) open(ctx context.Context) {
	w.t.Helper()
	over := w.over
	if over == nil {
		over = w.plane
	}
	log := cmp.Or(w.log, slog.New(slog.DiscardHandler))
	d, err := Open(ctx, load(w.t, w.disk), Options{Name: "d1", Plane: over, PlaneKind: "mem", Supplant: w.supplant, Host: w.host, Prober: w.host, Agents: w.agents, Journal: &w.kept,
		Now: func() time.Time { return time.Now().Add(time.Duration(w.skew.Load())) }, Log: log})
	if err != nil {
		w.t.Fatal(err)
	}
	w.d = d
}

// load reads a disk.
func load(t testing.TB, s Store) *Stored {
	t.Helper()
	stored, err := Load(s)
	if err != nil {
		t.Fatal(err)
	}
	return stored
}

// restart opens the disk again, over the plane as it is, or over an empty one.
func (w *world) restart(emptyPlane bool) {
	w.t.Helper()
	w.stop()
	if emptyPlane {
		w.plane = mem.New(interfaces)
	}
	w.start()
}

func (w *world) do(ops ...affinity.Op) []affinity.Result {
	w.t.Helper()
	r, err := w.d.Do(w.t.Context(), ops)
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// must expects every change to be accepted.
func (w *world) must(ops ...affinity.Op) []affinity.Result {
	w.t.Helper()
	results := w.do(ops...)
	for i, r := range results {
		if r.Err != nil {
			w.t.Fatalf("%T: %v", ops[i], r.Err)
		}
	}
	return results
}

// base makes a service, the default tenant and n real servers, a host each, alive.
func (w *world) base(n int, change ...func(*affinity.RealServer)) {
	w.t.Helper()
	w.must(
		affinity.PutService{By: operator, Service: &affinity.Service{Name: "ipsec", VIPs: []netip.Addr{netip.MustParseAddr("192.0.2.10")},
			Match: []affinity.Match{{Proto: 50}, {Proto: 17, Lo: 500, Hi: 500}}}},
		affinity.PutTenant{By: operator, Tenant: &affinity.Tenant{Covers: []netip.Prefix{netip.MustParsePrefix("100.64.0.0/10")}}})
	for i := 1; i <= n; i++ {
		rs := &affinity.RealServer{Name: fmt.Sprintf("rs%d", i), Addrs: []netip.Addr{netip.AddrFrom4([4]byte{198, 51, 100, byte(i)})}, Services: []string{"ipsec"}, Weight: 100}
		for _, f := range change {
			f(rs)
		}
		w.must(affinity.PutRealServer{By: operator, RealServer: rs})
		w.verdict(rs.Name, true)
	}
}

func (w *world) verdict(name string, alive bool) {
	v := Verdict{RealServer: name, Alive: alive, Cause: "test"}
	w.host.set(func(m *machine) {
		if m.verdicts == nil {
			m.verdicts = map[string]Verdict{}
		}
		m.verdicts[name] = v
	})
	w.d.Report(w.t.Context(), v)
	synctest.Wait()
}

// settle lets the background finish.
func (w *world) settle() { time.Sleep(5 * time.Second); synctest.Wait() }

// site n has endpoint 203.0.x.y and subnet 100.64.x.y/32.
func site(n int) *affinity.Tunnel {
	a, b := byte(n>>8), byte(n)
	return &affinity.Tunnel{ID: fmt.Sprintf("site-%04d", n), Service: "ipsec", Bandwidth: 1_000_000,
		Endpoints: []affinity.Endpoint{netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, a, b}), 0)},
		Subnets:   []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64, a, b}), 32)}}
}

func put(t *affinity.Tunnel) affinity.PutTunnel {
	return affinity.PutTunnel{By: affinity.Actor{Name: "nms"}, Tunnel: t}
}

// ways sends a packet of a tunnel in each direction through the plane and returns the real servers' names, "" if dropped.
func (w *world) ways(t *affinity.Tunnel) (in, out string) {
	w.t.Helper()
	tab := w.d.Table()
	look := func(p plane.Packet) string {
		dec, err := w.plane.Lookup(p)
		if err != nil {
			w.t.Fatal(err)
		}
		return tab.NameAt(dec.RealServer)
	}
	in = look(plane.Packet{Interface: "out", Src: t.Endpoints[0].Addr(), Dst: netip.MustParseAddr("192.0.2.10"), Proto: 50, Hops: 64})
	out = look(plane.Packet{Interface: "in", Src: netip.MustParseAddr("192.0.2.200"), Dst: t.Subnets[0].Addr(), Proto: 17, Hops: 64})
	return in, out
}

// at expects both directions at one real server.
func (w *world) at(t *affinity.Tunnel, want string) {
	w.t.Helper()
	if in, out := w.ways(t); in != want || out != want {
		w.t.Fatalf("%s goes to %q and returns by %q, want %q", t.ID, in, out, want)
	}
}

var errFull = fmt.Errorf("disk full: %w", ErrRefused)
