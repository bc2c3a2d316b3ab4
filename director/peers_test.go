package director

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tunneldirector/affinity"
	"tunneldirector/cluster"
	"tunneldirector/director/plane/mem"
)

// A hub joins directors of one bubble as gossip, heartbeats and streams would. What it carries is never lost: who is cut off
// gets it when the cut ends.
type hub struct {
	t     *testing.T
	mu    sync.Mutex
	nodes map[string]*node
	cuts  map[[2]string]bool
	deaf  [2]string // the first does not hear the second

	unsynced  bool // no director has had all of another's
	comparing bool // tables are being compared
}

// node is a director, and its Peers.
type node struct {
	*world
	hub       *hub
	member    cluster.Member
	poke      chan struct{}
	beat      cluster.Beat
	running   bool
	all       bool // it holds every VIP
	forgotten bool
	out       map[string][]affinity.Change
}

func inHub(t *testing.T, names int, f func(h *hub)) {
	synctest.Test(t, func(t *testing.T) {
		h := &hub{t: t, nodes: map[string]*node{}, cuts: map[[2]string]bool{}}
		for i := 1; i <= names; i++ {
			h.add(fmt.Sprintf("d%d", i), i)
		}
		stop := make(chan struct{})
		go h.carry(stop)
		for _, n := range h.all() {
			n.begin()
		}
		time.Sleep(8 * time.Second)
		f(h)
		for _, n := range h.all() {
			if n.running {
				n.end()
			}
		}
		close(stop)
	})
}

func (h *hub) add(name string, rank int) *node {
	n := &node{hub: h, poke: make(chan struct{}, 1), out: map[string][]affinity.Change{},
		member: cluster.Member{Name: name, Rank: rank, Role: cluster.RoleBoth}}
	n.world = &world{t: h.t, disk: &disk{records: map[string]affinity.Change{}}, host: &machine{answering: 9}, plane: mem.New(interfaces)}
	h.nodes[name] = n
	return n
}

// compare says whether tables are being compared.
func (h *hub) compare(on bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.comparing = on
}

func (h *hub) all() []*node {
	var out []*node
	for i := 1; i <= len(h.nodes); i++ {
		out = append(out, h.nodes[fmt.Sprintf("d%d", i)])
	}
	return out
}

func (n *node) begin() {
	ctx, cancel := context.WithCancel(n.t.Context())
	d, err := Open(ctx, load(n.t, n.disk), Options{Name: n.member.Name, Rank: n.member.Rank, Peers: n, Expects: true, HoldAll: n.all, PreemptAfter: 10 * time.Second,
		Plane: n.plane, PlaneKind: "mem", Host: n.host, Prober: n.host, Agents: n.agents, Journal: &n.kept, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		n.t.Fatal(err)
	}
	n.hub.mu.Lock()
	n.d = d
	n.hub.mu.Unlock()
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	n.hub.mu.Lock()
	n.running = true
	n.hub.mu.Unlock()
	n.hub.copyAll()
	n.stop = func() {
		cancel()
		if err := <-done; err != nil {
			n.t.Error(err)
		}
	}
}

func (n *node) end() {
	n.hub.mu.Lock()
	n.running = false
	n.hub.mu.Unlock()
	n.stop()
	n.hub.pokeAll()
}

// cut parts directors from each other, or joins them again and lets them have all that they missed.
func (h *hub) cut(on bool, pairs ...[2]string) {
	h.mu.Lock()
	for _, p := range pairs {
		slices.Sort(p[:])
		h.cuts[p] = on
	}
	h.mu.Unlock()
	h.pokeAll()
	synctest.Wait()
	if !on {
		h.copyAll()
	}
	time.Sleep(time.Second)
	synctest.Wait()
}

func (h *hub) joined(a, b string) bool {
	p := []string{a, b}
	slices.Sort(p)
	return !h.cuts[[2]string{p[0], p[1]}] && h.nodes[a].running && h.nodes[b].running
}

// copyAll queues every record of each director for each other one, as a round of digests would.
func (h *hub) copyAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, n := range h.nodes {
		if n.d == nil {
			continue
		}
		var all []affinity.Change
		t := n.d.Table()
		t.Records(func(k affinity.Kind, key string) bool {
			if c, ok := t.Record(k, key); ok {
				all = append(all, c)
			}
			return true
		})
		for name := range h.nodes {
			if name != n.member.Name {
				n.out[name] = append(n.out[name], all...)
			}
		}
	}
}

// carry delivers what is queued, a few milliseconds late.
func (h *hub) carry(stop chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(5 * time.Millisecond):
		}
		for _, from := range h.all() {
			for _, to := range h.all() {
				h.mu.Lock()
				var list []affinity.Change
				if from != to && h.joined(from.member.Name, to.member.Name) {
					list = from.out[to.member.Name]
					from.out[to.member.Name] = nil
				}
				d := to.d
				h.mu.Unlock()
				if len(list) > 0 {
					switch err := d.Merge(h.t.Context(), from.member.Name, list); {
					case strings.Contains(fmt.Sprint(err), errFull.Error()), errors.Is(err, ErrStopped): // again later, as replicas do
						h.mu.Lock()
						from.out[to.member.Name] = append(list, from.out[to.member.Name]...)
						h.mu.Unlock()
					case err != nil:
						h.t.Errorf("merge at %s: %v", to.member.Name, err)
					}
				}
			}
		}
	}
}

func (h *hub) pokeAll() {
	for _, n := range h.nodes {
		select {
		case n.poke <- struct{}{}:
		default:
		}
	}
}

func (n *node) View() cluster.View {
	n.hub.mu.Lock()
	defer n.hub.mu.Unlock()
	v := cluster.View{Self: n.member, Beat: n.beat}
	for _, o := range n.hub.all() {
		if o != n && o.d != nil && !o.forgotten {
			v.Peers = append(v.Peers, cluster.Peer{Member: o.member, Beat: o.beat, Alive: n.hub.joined(n.member.Name, o.member.Name) && n.hub.deaf != [2]string{n.member.Name, o.member.Name}})
		}
	}
	return v
}
func (n *node) Changed() <-chan struct{} { return n.poke }
func (n *node) Say(b cluster.Beat) {
	if len(b.Holds) > cluster.MaxHashes || len(b.Unreached) > cluster.MaxHashes {
		n.t.Errorf("%s says more than a beat carries: holds %d, does not reach %d", n.member.Name, len(b.Holds), len(b.Unreached))
	}
	n.hub.mu.Lock()
	before := n.beat
	n.beat = b
	n.hub.mu.Unlock()
	if before.Ready != b.Ready || before.Leaving != b.Leaving || before.Sick != b.Sick || before.Many != b.Many || !slices.Equal(before.Holds, b.Holds) || !slices.Equal(before.Unreached, b.Unreached) {
		n.hub.pokeAll()
	}
}
func (n *node) said() cluster.Beat {
	n.hub.mu.Lock()
	defer n.hub.mu.Unlock()
	return n.beat
}
func (n *node) Wrote(changes []affinity.Change, _ uint64) {
	n.hub.mu.Lock()
	defer n.hub.mu.Unlock()
	for name := range n.hub.nodes {
		if name != n.member.Name {
			n.out[name] = append(n.out[name], changes...)
		}
	}
}
func (n *node) Streams() []string { return nil }
func (n *node) Settled() bool {
	n.hub.mu.Lock()
	defer n.hub.mu.Unlock()
	return !n.hub.comparing
}
func (n *node) Synced() (bool, bool) {
	n.hub.mu.Lock()
	defer n.hub.mu.Unlock()
	if n.hub.unsynced {
		return false, false
	}
	for name, o := range n.hub.nodes {
		if o != n && n.hub.joined(n.member.Name, name) && len(o.out[n.member.Name]) > 0 {
			return false, false
		}
	}
	return true, true
}
func (n *node) Await(context.Context, uint64, int) []string { return nil }
func (n *node) Ask(ctx context.Context, name string, q []byte) ([]byte, error) {
	return n.hub.nodes[name].d.Answer(ctx, n.member.Name, q)
}

// reports has all directors' probes say the same of a real server.
func (h *hub) reports(name string, alive bool) {
	for _, n := range h.all() {
		if n.running {
			n.world.verdict(name, alive)
		}
	}
}

// base is world.base, at d1, with all directors' probes answered.
func (h *hub) base(n int) {
	h.t.Helper()
	d1 := h.nodes["d1"]
	d1.base(n)
	for i := 1; i <= n; i++ {
		h.reports(fmt.Sprintf("rs%d", i), true)
	}
	time.Sleep(5 * time.Second)
	synctest.Wait()
}

// equal expects all running directors to have the same records.
func (h *hub) equal() {
	h.t.Helper()
	want, count := h.nodes["d1"].d.digest.Root()
	for _, n := range h.all() {
		if root, c := n.d.digest.Root(); n.running && (root != want || c != count) {
			h.t.Errorf("%s has %d records (%x), d1 %d (%x)", n.member.Name, c, root, count, want)
		}
	}
}

func TestDirectorsHoldOneTable(t *testing.T) {
	inHub(t, 3, func(h *hub) {
		h.base(3)
		for i := range 30 {
			d := h.nodes[fmt.Sprintf("d%d", i%3+1)]
			r := d.must(put(site(i)))[0]
			if r.Pin.Primary == 0 || strings.Contains(strings.Join(r.Warnings, " "), "pending") {
				t.Errorf("pushed to %s: %+v", d.member.Name, r)
			}
		}
		time.Sleep(time.Second)
		h.equal()
		for i := range 30 {
			in, _ := h.nodes["d1"].ways(site(i))
			_, out := h.nodes["d3"].ways(site(i))
			if in == "" || in != out {
				t.Errorf("site %d: %q by d1 and %q by d3", i, in, out)
			}
		}
		if r := h.nodes["d2"].must(affinity.Repin{By: operator, Group: "site-0001", To: "rs3"})[0]; r.Pin.Primary == 0 {
			t.Errorf("repin through d2: %+v", r)
		}
		h.nodes["d3"].must(affinity.DeleteTunnel{By: operator, ID: "site-0002"})
		time.Sleep(time.Second)
		h.equal()
		if _, ok := h.nodes["d1"].d.Table().Pin("site-0002"); ok {
			t.Error("a deleted tunnel's pin is left")
		}
	})
}

// Every tunnel whose placement is late is said to be so.
func TestLatePlacementsArePending(t *testing.T) {
	inHub(t, 2, func(h *hub) {
		h.base(2)
		h.nodes["d1"].disk.pause(2 * time.Second)
		before := time.Now()
		for i, r := range h.nodes["d2"].must(put(site(1)), put(site(2)), put(site(3))) {
			if r.Pin.Primary != 0 || len(r.Warnings) != 1 || !strings.HasPrefix(r.Warnings[0], `pending: director "d1"`) {
				t.Errorf("the %dth of three: %+v", i+1, r)
			}
		}
		if took := time.Since(before); took > time.Second {
			t.Errorf("it took %v", took)
		}
		h.nodes["d1"].disk.pause(0)
		time.Sleep(10 * time.Second)
		h.equal()
	})
}

func TestNextAssignerGoesOn(t *testing.T) {
	inHub(t, 3, func(h *hub) {
		h.base(3)
		h.nodes["d1"].end()
		r := h.nodes["d3"].must(put(site(1)))[0] // nobody assigns yet, for a moment
		time.Sleep(2 * time.Second)
		if p, _ := h.nodes["d3"].d.Table().Pin("site-0001"); p.Primary == 0 || p.Header.Origin != "d2" {
			t.Errorf("not placed by d2: %+v, answered %+v", p, r)
		}
		h.nodes["d1"].begin()
		time.Sleep(10 * time.Second)
		h.equal()
		h.nodes["d3"].must(put(site(2)))
		if p, _ := h.nodes["d3"].d.Table().Pin("site-0002"); p.Header.Origin != "d1" {
			t.Errorf("d1 has come back, and site 2 was placed by %q", p.Header.Origin)
		}
	})
}

// An assigner whose process was stopped does not know yet that another one places, when it goes on.
func TestWhoStoodStillPlacesNothingAtOnce(t *testing.T) {
	inHub(t, 2, func(h *hub) {
		h.base(3)
		d1, d2 := h.nodes["d1"], h.nodes["d2"]
		h.cut(true, [2]string{"d1", "d2"})
		time.Sleep(time.Second)
		d2.must(put(site(1)))
		where := d2.pinned("site-0001")
		d1.d.turned.Store(time.Now().Add(-3 * time.Second).UnixNano())
		if err := d1.d.Merge(h.t.Context(), "d2", recordsOf(d2.d.Table(), func(k affinity.Kind) bool { return k == affinity.KindTunnel })); err != nil {
			t.Fatal(err)
		}
		if p, placed := d1.d.Table().Pin("site-0001"); placed {
			t.Errorf("placed at once: %+v", p)
		}
		h.cut(false, [2]string{"d1", "d2"})
		time.Sleep(5 * time.Second)
		if p, _ := d1.d.Table().Pin("site-0001"); d1.pinned("site-0001") != where || p.Header.Origin != "d2" {
			t.Errorf("d2 placed it at %s: %+v", where, p)
		}
		d1.must(put(site(2)))
		if p, _ := d1.d.Table().Pin("site-0002"); p.Header.Origin != "d1" {
			t.Errorf("d1 does not place again: %+v", p)
		}
		time.Sleep(time.Second)
		h.equal()
	})
}

func TestDeathNeedsAgreement(t *testing.T) {
	inHub(t, 2, func(h *hub) {
		h.base(3)
		h.nodes["d2"].must(put(site(1)))
		p, _ := h.nodes["d1"].d.Table().Pin("site-0001")
		name := h.nodes["d1"].d.Table().NameAt(p.Primary)
		backup := h.nodes["d1"].d.Table().NameAt(p.Backup)

		h.nodes["d1"].world.verdict(name, false) // the assigner alone does not reach it
		if in, _ := h.nodes["d1"].ways(site(1)); in != backup {
			t.Errorf("not failed over at once: %q, want %q", in, backup)
		}
		time.Sleep(3 * time.Second)
		if in, _ := h.nodes["d1"].ways(site(1)); in != name {
			t.Errorf("after the doubt: %q, want %q", in, name)
		}
		if !h.nodes["d1"].said().Sick || h.nodes["d2"].said().Sick {
			t.Error("d1 alone should be sick")
		}
		if holds := len(h.nodes["d1"].said().Holds); holds != 0 {
			t.Errorf("a sick director holds %d addresses", holds)
		}
		h.nodes["d2"].world.verdict(name, false)
		time.Sleep(time.Second)
		for _, d := range h.all() {
			if l, _ := d.d.Table().LifeOf(name); l.Alive {
				t.Errorf("%s has %s alive", d.member.Name, name)
			}
			if in, _ := d.ways(site(1)); in != backup {
				t.Errorf("%s: %q, want %q", d.member.Name, in, backup)
			}
		}
		h.equal()
	})
}

// An assigner that no real server answers believes the others, which reach some: a death that is known to them is not left unsaid.
func TestBlindAssignerBelievesTheOthers(t *testing.T) {
	inHub(t, 3, func(h *hub) {
		h.base(3)
		d1 := h.nodes["d1"]
		d1.must(put(site(1)))
		time.Sleep(time.Second)
		name, _ := d1.ways(site(1))
		d1.world.host.set(func(m *machine) { m.answering = 0 })
		for _, l := range d1.d.Table().Lives() {
			d1.world.verdict(l.RealServer, false)
		}
		time.Sleep(3 * time.Second)
		if in, _ := d1.ways(site(1)); in != name {
			t.Fatalf("the blind one sends to %q, want %q: the others reach it", in, name)
		}
		for _, n := range []string{"d2", "d3"} {
			h.nodes[n].world.verdict(name, false)
		}
		time.Sleep(2 * time.Second)
		for _, n := range h.all() {
			if l, ok := n.d.Table().LifeOf(name); ok && l.Alive {
				t.Errorf("%s has %s alive, which nobody reaches", n.member.Name, name)
			}
			if in, _ := n.ways(site(1)); in == name {
				t.Errorf("%s sends to %s, which nobody reaches", n.member.Name, name)
			}
		}
		h.equal()
	})
}

func TestPartitionHeals(t *testing.T) {
	inHub(t, 2, func(h *hub) {
		h.base(3)
		for i := range 10 {
			h.nodes["d1"].must(put(site(i)))
		}
		time.Sleep(time.Second)
		h.cut(true, [2]string{"d1", "d2"})
		time.Sleep(2 * time.Second)
		for i := range 10 {
			h.nodes[fmt.Sprintf("d%d", i%2+1)].must(put(site(100 + i)))
		}
		h.nodes["d1"].must(put(site(200)))
		h.nodes["d2"].must(put(site(200)))
		h.nodes["d2"].must(affinity.DeleteTunnel{By: operator, ID: "site-0001"})
		h.cut(false, [2]string{"d1", "d2"})
		time.Sleep(5 * time.Second)
		h.equal()
		for i := range 10 {
			in, _ := h.nodes["d1"].ways(site(100 + i))
			_, out := h.nodes["d2"].ways(site(100 + i))
			if in == "" || in != out {
				t.Errorf("site %d: %q and %q", i, in, out)
			}
		}
		if _, ok := h.nodes["d1"].d.Table().Tunnel("site-0001"); ok {
			t.Error("a deleted tunnel is back")
		}
	})
}

func TestAddressesAreOwned(t *testing.T) {
	inHub(t, 3, func(h *hub) {
		h.base(2)
		vip := netip.MustParseAddr("192.0.2.10")
		holders := func() (out []string) {
			for _, n := range h.all() {
				if n.running && n.said().HoldsAddr(vip) {
					out = append(out, n.member.Name)
				}
			}
			return out
		}
		if got := holders(); !slices.Equal(got, []string{"d1"}) {
			t.Errorf("held by %v", got)
		}
		h.nodes["d1"].end()
		time.Sleep(time.Second)
		if got := holders(); !slices.Equal(got, []string{"d2"}) {
			t.Errorf("after d1's end held by %v", got)
		}
		h.nodes["d1"].begin()
		time.Sleep(8 * time.Second)
		if got := holders(); !slices.Equal(got, []string{"d2"}) {
			t.Errorf("d1 did not wait: held by %v", got)
		}
		time.Sleep(15 * time.Second)
		if got := holders(); !slices.Equal(got, []string{"d1"}) {
			t.Errorf("d1 is preferred: held by %v", got)
		}
		if err := h.nodes["d1"].d.Leave(h.t.Context()); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Second)
		if got := holders(); !slices.Equal(got, []string{"d2"}) {
			t.Errorf("after d1 left held by %v", got)
		}
	})
}

// Who is sick does not give up what nobody would take: a peer that gossip has said to leave does not.
func TestWhoIsSickKeepsWhatNobodyTakes(t *testing.T) {
	inHub(t, 2, func(h *hub) {
		h.base(1)
		d1 := h.nodes["d1"]
		d1.end()
		d1.all = true
		h.mu.Lock()
		h.nodes["d2"].member.Leaving = true
		h.mu.Unlock()
		d1.begin()
		time.Sleep(20 * time.Second)
		d1.world.verdict("rs1", false)
		time.Sleep(4 * time.Second)
		if !d1.said().Sick || len(d1.said().Holds) != 1 {
			t.Errorf("sick %t, holds %d", d1.said().Sick, len(d1.said().Holds))
		}
	})
}

// A director that does not reach the real servers now and then does not move addresses each time.
func TestOneThatWasSickWaits(t *testing.T) {
	inHub(t, 2, func(h *hub) {
		h.base(1)
		vip := netip.MustParseAddr("192.0.2.10")
		held := func(want string) {
			t.Helper()
			for _, n := range h.all() {
				if n.said().HoldsAddr(vip) != (n.member.Name == want) {
					t.Errorf("%s holds it: %t, want it with %s", n.member.Name, n.said().HoldsAddr(vip), want)
				}
			}
		}
		time.Sleep(20 * time.Second)
		held("d1")
		name := h.nodes["d1"].d.Table().RealServers()[0].Name
		h.nodes["d1"].world.verdict(name, false)
		time.Sleep(4 * time.Second)
		held("d2")
		h.nodes["d1"].world.verdict(name, true)
		time.Sleep(8 * time.Second)
		held("d2")
		time.Sleep(4 * time.Second)
		held("d1")
	})
}

// Where nobody could take over, the kernel goes on with the addresses for as long as a restart takes.
func TestAddressesLastWhereNobodyTakesOver(t *testing.T) {
	inHub(t, 2, func(h *hub) {
		h.base(1)
		lasts := func(want time.Duration) {
			t.Helper()
			time.Sleep(2 * time.Second)
			h.nodes["d1"].host.set(func(m *machine) {
				if m.held.Lifetime != want || len(m.held.Own) == 0 {
					t.Errorf("d1 holds %v for %v, want for %v", m.held.Own, m.held.Lifetime, want)
				}
			})
		}
		lasts(4 * time.Second)
		h.nodes["d2"].end()
		lasts(time.Minute)
		h.nodes["d2"].begin()
		time.Sleep(8 * time.Second)
		lasts(4 * time.Second)
		h.mu.Lock()
		h.nodes["d1"].member.Role, h.nodes["d2"].member.Role = cluster.RoleTunnel, cluster.RoleSubnet
		h.mu.Unlock()
		lasts(time.Minute)
		if err := h.nodes["d1"].d.Leave(h.t.Context()); err != nil {
			t.Errorf("leave where nobody takes over: %v", err)
		}
		lasts(time.Minute)
	})
}

// A real server that returns is found by the directors one after another, and none of them is sick for that.
func TestWhoFindsAReturnLaterIsNotSick(t *testing.T) {
	inHub(t, 2, func(h *hub) {
		h.base(2)
		time.Sleep(10 * time.Second)
		name := h.nodes["d1"].d.Table().RealServers()[0].Name
		for _, n := range h.all() {
			n.world.verdict(name, false)
		}
		time.Sleep(10 * time.Second)
		h.nodes["d1"].world.verdict(name, true)
		time.Sleep(900 * time.Millisecond)
		if l, _ := h.nodes["d2"].d.Table().LifeOf(name); !l.Alive || h.nodes["d2"].said().Sick {
			t.Errorf("d2 has %+v of it, and is sick: %t", l, h.nodes["d2"].said().Sick)
		}
		time.Sleep(4 * time.Second)
		if !h.nodes["d2"].said().Sick {
			t.Error("d2 alone does not reach it, and is not sick")
		}
	})
}
