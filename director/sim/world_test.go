package sim

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tunneldirector/affinity"
	"tunneldirector/cluster"
)

// A world is all that there is in a bubble.
type world struct {
	t       *testing.T
	seed    uint64
	r       *rand.Rand // for what happens, and nothing else
	began   time.Time
	log     *slog.Logger
	network *network
	nodes   []*node
	witness *witness
	oracle  *oracle
	agenda  []appointment
	stores  int // made so far
	clients sync.WaitGroup
	ctx     context.Context // of the clients
	hangUp  context.CancelFunc

	mu   sync.Mutex
	down map[string]bool    // real servers that answer nobody
	deaf map[[2]string]bool // directors that a real server does not answer
	told []string           // what happened
}

// An appointment is something that happens by itself, later.
type appointment struct {
	at time.Time
	do func()
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{t: t, seed: seed, r: rand.New(rand.NewPCG(seed, 11)), began: time.Now(), log: slog.New(slog.DiscardHandler), network: newNetwork(seed),
		down: map[string]bool{}, deaf: map[[2]string]bool{}}
	if os.Getenv("SIM_LOG") != "" {
		w.log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				a.Value = slog.StringValue(w.elapsed())
			}
			return a
		}}))
	}
	w.ctx, w.hangUp = context.WithCancel(context.Background())
	w.witness = newWitness(w)
	w.oracle = newOracle(w)
	return w
}

// elapsed is the time since the beginning.
func (w *world) elapsed() string { return fmt.Sprintf("%.3f", time.Since(w.began).Seconds()) }

// tell notes what happens, for people.
func (w *world) tell(format string, args ...any) {
	words := w.elapsed() + " " + fmt.Sprintf(format, args...)
	w.mu.Lock()
	w.told = append(w.told, words)
	w.mu.Unlock()
	w.log.Warn("HISTORY " + words)
}

// fail ends a history that shows a fault, with all that is needed to have it again.
func (w *world) fail(format string, args ...any) {
	w.mu.Lock()
	told := slices.Clone(w.told)
	w.mu.Unlock()
	w.t.Errorf("seed %d, after %s s: %s\n  again: SIM_SEED=%d go test -run 'TestSimulation/seed-%d$' ./director/sim\n  what happened:\n    %s",
		w.seed, w.elapsed(), fmt.Sprintf(format, args...), w.seed, w.seed, strings.Join(told, "\n    "))
}

// later makes an appointment.
func (w *world) later(after time.Duration, do func()) {
	w.agenda = append(w.agenda, appointment{time.Now().Add(after), do})
}

// keep does what is due of the agenda, and replaces disks that were found to be old copies.
func (w *world) keep() {
	for _, n := range w.nodes {
		if n.aside.Swap(false) && !n.left {
			w.tell("the disk of %s is an old copy and is moved aside", n.name)
			n.crash(false)
			n.put(w.emptyDisk(n))
			n.memory = newMemory()
			w.witness.diskLost()
			w.start(n)
			w.gossip()
		}
	}
	for {
		i := slices.IndexFunc(w.agenda, func(a appointment) bool { return !time.Now().Before(a.at) })
		if i < 0 {
			return
		}
		a := w.agenda[i]
		w.agenda = slices.Delete(w.agenda, i, i+1)
		a.do()
	}
}

// answers tells whether a real server answers a director.
func (w *world) answers(node, rs string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.down[rs] && !w.deaf[[2]string{node, rs}]
}

func (w *world) emptyDisk(n *node) *disk {
	w.stores++
	return newDisk(fmt.Sprintf("store-%d", w.stores), w.seed*1000+uint64(w.stores), func(d *disk, old map[recordKey]affinity.Change, written []affinity.Change) {
		w.witness.commit(n, d, old, written)
	})
}

// disks are those of the directors that have not left, by name.
func (w *world) disks() map[string]*disk {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := map[string]*disk{}
	for _, n := range w.nodes {
		if !n.left {
			out[n.name] = n.disk
		}
	}
	return out
}

// members are all that have not left, as gossip would say.
func (w *world) members() (list []cluster.Member) {
	for _, n := range w.nodes {
		if !n.left {
			list = append(list, n.member)
		}
	}
	return list
}

// gossip tells everybody who is a member.
func (w *world) gossip() {
	for _, n := range w.nodes {
		if n.running() {
			n.proc.peers.beater.SetMembers(w.members())
		}
	}
}

// running are the directors that run.
func (w *world) running() (list []*node) {
	for _, n := range w.nodes {
		if n.running() {
			list = append(list, n)
		}
	}
	return list
}

// start starts a director, which must be possible from every disk.
func (w *world) start(n *node) {
	if err := n.start(); err != nil {
		w.fail("%v", err)
	}
}

// end stops everything, so that the bubble can end.
func (w *world) end() {
	w.hangUp()
	for _, n := range w.nodes {
		n.crash(false)
	}
	w.clients.Wait()
	w.network.mu.Lock()
	pipes := w.network.pipes
	w.network.mu.Unlock()
	for p := range pipes {
		p.stop(errGone, errGone)
	}
}

// What is balanced: two services, one tenant, four real servers.
var (
	vips     = []netip.Addr{netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("192.0.2.11"), netip.MustParseAddr("192.0.2.20")}
	gateway  = netip.MustParseAddr("198.51.100.253")
	nms      = affinity.Actor{Name: "nms"}
	operator = affinity.Actor{Name: "operator", Any: true}
)

func services() []affinity.Op {
	return []affinity.Op{
		affinity.PutService{By: operator, Service: &affinity.Service{Name: "ipsec", VIPs: vips[:2], Match: []affinity.Match{{Proto: 50}, {Proto: 17, Lo: 500, Hi: 500}},
			Prefer: map[netip.Addr][]string{vips[1]: {"d2"}}}},
		affinity.PutService{By: operator, Service: &affinity.Service{Name: "wg", VIPs: vips[2:], Match: []affinity.Match{{Proto: 17, Lo: 51820, Hi: 51820}}}},
		affinity.PutTenant{By: operator, Tenant: &affinity.Tenant{Covers: []netip.Prefix{netip.MustParsePrefix("100.64.0.0/10")}, Gateways: []netip.Addr{gateway}}},
		realServer(1, 100), realServer(2, 100), realServer(3, 100), realServer(4, 100),
	}
}

func realServer(i int, weight uint32) affinity.Op {
	return affinity.PutRealServer{By: operator, RealServer: &affinity.RealServer{Name: fmt.Sprintf("rs%d", i), Weight: weight,
		Addrs: []netip.Addr{netip.AddrFrom4([4]byte{198, 51, 100, byte(i)})}, Services: []string{"ipsec", "wg"}}}
}
