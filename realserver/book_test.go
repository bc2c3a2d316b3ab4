package realserver

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tunneldirector/director/agent"
	"tunneldirector/realserver/terminator"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// site is the tunnel of one site, established at a time.
func site(n int, since time.Time) agent.Tunnel {
	return agent.Tunnel{Peer: fmt.Sprintf("site-%05d", n), Local: netip.MustParseAddr("192.0.2.10"),
		Endpoint: netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18, byte(n >> 8), byte(n)}), 4500),
		Subnets:  []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(n >> 8), byte(n), 0}), 24)}, Since: since}
}

func sites(n int, since time.Time) (out []agent.Tunnel) {
	for i := range n {
		out = append(out, site(i, since))
	}
	return out
}

// A reader is what a director knows by reports, by its rules.
type reader struct {
	seq   uint64
	up    map[string]agent.Tunnel
	whole map[string]agent.Tunnel
}

func (r *reader) read(t testing.TB, list []agent.Report) {
	t.Helper()
	if r.up == nil {
		r.up = map[string]agent.Tunnel{}
	}
	for _, x := range list {
		if len(x.Up)+len(x.Down) > agent.MaxTunnels {
			t.Fatalf("%d tunnels in a report", len(x.Up)+len(x.Down))
		}
		if x.Seq < r.seq || !x.Whole && x.Seq == r.seq {
			t.Fatalf("seq %d after %d", x.Seq, r.seq)
		}
		if x.Whole {
			if x.First {
				r.whole = map[string]agent.Tunnel{}
			}
			for _, u := range x.Up {
				r.whole[u.Peer] = u
			}
			if x.Last {
				r.up, r.seq = r.whole, x.Seq
			}
			continue
		}
		r.seq = x.Seq
		for _, u := range x.Up {
			r.up[u.Peer] = u
		}
		for _, d := range x.Down {
			delete(r.up, d)
		}
	}
}

// TestReportsFollow: whoever reads what is reported, with pauses of any length, knows what is established.
func TestReportsFollow(t *testing.T) {
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 1))
	b := newBook()
	now := epoch
	have := map[int]agent.Tunnel{}
	readers := make([]reader, 3)
	for step := range 150 {
		now = now.Add(5 * time.Second)
		for range rnd.IntN(60) {
			n := rnd.IntN(400)
			switch s := have[n]; {
			case s.Peer == "":
				have[n] = site(n, now)
			case rnd.IntN(2) == 0:
				delete(have, n)
			default:
				s.Endpoint = netip.AddrPortFrom(s.Endpoint.Addr(), uint16(rnd.Uint32()))
				have[n] = s
			}
		}
		b.update(now, 0, slices.Collect(maps.Values(have)))
		for i := range readers {
			if rnd.IntN(1+4*i) == 0 {
				list, seq := b.reports("rs1", readers[i].seq)
				readers[i].read(t, list)
				if readers[i].seq != seq {
					t.Fatalf("seed %d step %d: reports end at %d, said %d", seed, step, readers[i].seq, seq)
				}
				want := map[string]agent.Tunnel{}
				for _, s := range have {
					want[s.Peer] = s
				}
				if d := cmp.Diff(want, readers[i].up, cmp.Comparer(func(a, b agent.Tunnel) bool {
					return a.Endpoint == b.Endpoint && slices.Equal(a.Subnets, b.Subnets) && a.Since.Equal(b.Since)
				})); d != "" {
					t.Fatalf("seed %d step %d reader %d (-want +got):\n%s", seed, step, i, d)
				}
			}
		}
	}
}

func TestReportsForgotten(t *testing.T) {
	b := newBook()
	b.update(epoch, 0, sites(maxGone+100, epoch))
	list, seq := b.reports("rs1", 0)
	if want := (maxGone + 100 + agent.MaxTunnels - 1) / agent.MaxTunnels; len(list) != want || !list[0].First || !list[len(list)-1].Last || list[1].First {
		t.Errorf("%d whole reports, want %d", len(list), want)
	}
	b.update(epoch, 0, sites(200, epoch))
	if list, _ := b.reports("rs1", seq); list[0].Whole || len(list[0].Down) == 0 {
		t.Errorf("what is remembered is told as a whole: %+v", list[0])
	}
	b.update(epoch, 0, nil)
	if list, _ := b.reports("rs1", seq); !list[0].Whole || len(list[0].Up) > 0 {
		t.Errorf("what is forgotten is told as a change: %d down", len(list[0].Down))
	}
	if n := len(b.peers); n > maxGone {
		t.Errorf("%d peers remembered", n)
	}
}

func TestNothingIsAFact(t *testing.T) {
	b := newBook()
	if list, seq := b.reports("rs1", 0); list != nil || seq != 0 {
		t.Errorf("before a look: %v", list)
	}
	if b.empty(epoch) {
		t.Error("a book that nobody looked for became empty")
	}
	b.update(epoch, 0, nil)
	want := []agent.Report{{RealServer: "rs1", Seq: 1, Whole: true, First: true, Last: true}}
	list, _ := b.reports("rs1", 0)
	if d := cmp.Diff(want, list); d != "" {
		t.Error(d)
	}
	if list, _ = b.reports("rs1", 7); !list[0].Whole {
		t.Error("a number from elsewhere is taken for known")
	}
}

func TestWhatIsTold(t *testing.T) {
	base := func() agent.Tunnel { s := site(1, epoch); s.Rx, s.Last = 100, epoch; return s }
	tests := []struct {
		name   string
		after  time.Duration
		step   time.Duration
		change func(*agent.Tunnel)
		told   bool
		anew   bool
	}{
		{"nothing", time.Hour, 0, func(*agent.Tunnel) {}, false, false},
		{"endpoint", time.Second, 0, func(t *agent.Tunnel) { t.Endpoint = netip.MustParseAddrPort("203.0.113.9:4500") }, true, false},
		{"port", time.Second, 0, func(t *agent.Tunnel) { t.Endpoint = netip.AddrPortFrom(t.Endpoint.Addr(), 1) }, true, false},
		{"local", time.Second, 0, func(t *agent.Tunnel) { t.Local = netip.MustParseAddr("192.0.2.11") }, true, false},
		{"subnets", time.Second, 0, func(t *agent.Tunnel) { t.Subnets = nil }, true, false},
		{"established again", time.Second, 0, func(t *agent.Tunnel) { t.Since = epoch.Add(3 * time.Second) }, true, true},
		{"seconds rounded", time.Second, 0, func(t *agent.Tunnel) { t.Since = epoch.Add(time.Second) }, false, false},
		{"counters soon", 30 * time.Second, 0, func(t *agent.Tunnel) { t.Rx++ }, false, false},
		{"counters after a while", retold, 0, func(t *agent.Tunnel) { t.Rx++ }, true, false},
		{"last packet after a while", retold, 0, func(t *agent.Tunnel) { t.Last = epoch.Add(time.Second) }, true, false},
		{"clock set, times with it", time.Second, time.Hour, func(t *agent.Tunnel) { t.Since = t.Since.Add(time.Hour) }, true, false},
		{"clock set back, times with it", time.Second, -time.Hour, func(t *agent.Tunnel) { t.Since = t.Since.Add(-time.Hour) }, true, false},
		{"clock set, times as they were", time.Second, time.Hour, func(*agent.Tunnel) {}, false, false},
		{"clock set, and established again", time.Second, time.Hour, func(t *agent.Tunnel) { t.Since = t.Since.Add(time.Hour + 5*time.Second) }, true, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBook()
			b.update(epoch, 0, []agent.Tunnel{base()})
			s := base()
			tt.change(&s)
			now := epoch.Add(tt.after)
			if told := b.update(now, tt.step, []agent.Tunnel{s}); told != tt.told {
				t.Errorf("told %v, want %v", told, tt.told)
			}
			x, ok := b.find(agent.Inherited{Peer: s.Peer})
			if anew := x.born.Equal(now); !ok || anew != tt.anew {
				t.Errorf("established anew %v, want %v", anew, tt.anew)
			}
		})
	}
}

// TestToldOverTheMinute: of tunnels that were all there when the agent came, and all carry packets, each is told once a minute, and not
// all of them in one moment.
func TestToldOverTheMinute(t *testing.T) {
	const n, looks = 1200, 36
	b := newBook()
	list := sites(n, epoch)
	b.update(epoch, 0, list)
	told := map[string]int{}
	for look := range looks {
		for i := range list {
			list[i].Rx++
		}
		before := b.last()
		b.update(epoch.Add(time.Duration(look+1)*5*time.Second), 0, list)
		now, _ := b.changed(before)
		if len(now) > n/10 {
			t.Errorf("look %d tells of %d tunnels at once", look, len(now))
		}
		for _, x := range now {
			told[x.tunnel.Peer]++
		}
	}
	for _, s := range list {
		if got := told[s.Peer]; got < 2 || got > 3 {
			t.Errorf("%s was told %d times in three minutes", s.Peer, got)
		}
	}
}

// TestSinceDoesNotCreep: a reading that is a little later each time is not one new establishment after another, nor none for ever.
func TestSinceDoesNotCreep(t *testing.T) {
	b := newBook()
	for i := range 5 {
		told := b.update(epoch, 0, []agent.Tunnel{site(1, epoch.Add(time.Duration(i)*time.Second))})
		if want := i == 0 || i == 3; told != want {
			t.Errorf("reading %d: told %v, want %v", i, told, want)
		}
	}
}

// TestRenamed: a tunnel that is called otherwise, since one that shares its name came or went, is as old, and as alive, as it was.
func TestRenamed(t *testing.T) {
	x, y := site(1, epoch), site(2, epoch.Add(10*time.Minute))
	x.Rx, y.Rx = 100, 100
	named := func(s agent.Tunnel, peer string) agent.Tunnel { s.Peer = peer; return s }
	at := func(s agent.Tunnel) string { return terminator.NameAt("s x", s.Endpoint) }
	b := newBook()
	b.update(epoch, 0, nil)
	b.update(epoch.Add(time.Second), 0, []agent.Tunnel{named(x, "s x")})
	later := epoch.Add(10 * time.Minute)
	for _, step := range []struct {
		name string
		list []agent.Tunnel
		old  string
	}{
		{"another comes", []agent.Tunnel{named(y, at(y)), named(x, at(x))}, at(x)},
		{"it goes", []agent.Tunnel{named(x, "s x")}, "s x"},
		{"and comes again", []agent.Tunnel{named(x, at(x)), named(y, at(y))}, at(x)},
	} {
		later = later.Add(time.Second)
		order := later.Add(-500 * time.Millisecond)
		if !b.update(later, 0, step.list) {
			t.Errorf("%s: nobody is told", step.name)
		}
		e, up := b.find(agent.Inherited{Peer: "s x", Endpoint: x.Endpoint})
		if why := spared(&e, up, order); !up || e.tunnel.Peer != step.old || why != "" {
			t.Errorf("%s: up %v as %q; spared: %q", step.name, up, e.tunnel.Peer, why)
		}
		if e.lives(later) {
			t.Errorf("%s: it lives, without a packet for ten minutes", step.name)
		}
	}
	if e, up := b.find(agent.Inherited{Peer: at(y), Endpoint: y.Endpoint}); spared(&e, up, later.Add(-500*time.Millisecond)) == "" || !e.lives(later) {
		t.Errorf("the other one, which came just now: %+v, up %v", e, up)
	}
	// One that was not seen for long, though it was there, is as old as its software says.
	b.update(later, 0, []agent.Tunnel{site(3, later.Add(-time.Minute))})
	if e, up := b.find(inherited(3)); spared(&e, up, later.Add(-time.Second)) != "" || spared(&e, up, later.Add(-2*time.Minute)) == "" {
		t.Errorf("seen late: born %v", e.born)
	}
}

func TestOnePeerTwice(t *testing.T) {
	for _, order := range [][]int{{0, 10}, {10, 0}} {
		b := newBook()
		var list []agent.Tunnel
		for _, s := range order {
			x := site(1, epoch.Add(time.Duration(s)*time.Second))
			x.Endpoint = netip.AddrPortFrom(x.Endpoint.Addr(), uint16(s+1))
			list = append(list, x)
		}
		b.update(epoch, 0, list)
		if x, _ := b.find(agent.Inherited{Peer: "site-00001"}); x.tunnel.Endpoint.Port() != 11 || b.count() != 1 {
			t.Errorf("order %v: port %d, %d tunnels", order, x.tunnel.Endpoint.Port(), b.count())
		}
		if b.update(epoch.Add(5*time.Second), 0, list) {
			t.Errorf("order %v: the same again is told again", order)
		}
	}
}

func TestFind(t *testing.T) {
	b := newBook()
	same := func(n, port int, subnet string) agent.Tunnel {
		s := site(n, epoch)
		s.Endpoint = netip.AddrPortFrom(netip.MustParseAddr("203.0.113.5"), uint16(port))
		s.Subnets = []netip.Prefix{netip.MustParsePrefix(subnet)}
		return s
	}
	b.update(epoch, 0, []agent.Tunnel{same(1, 4500, "10.1.0.0/16"), same(2, 1024, "10.2.0.0/16"), same(3, 0, "10.3.0.0/16"), site(4, epoch)})
	tests := []struct {
		name, peer, endpoint, local, subnet, want string
	}{
		{"by peer", "site-00002", "192.0.2.99:1", "", "", "site-00002"},
		{"another peer", "site-9", "203.0.113.5:4500", "", "", ""},
		{"by endpoint", "", "198.18.0.4:4500", "", "", "site-00004"},
		{"another port", "", "198.18.0.4:4501", "", "", ""},
		{"port not known", "", "198.18.0.4:0", "", "", "site-00004"},
		{"another VIP", "", "198.18.0.4:4500", "192.0.2.99", "", ""},
		{"behind one address, by port and subnet", "", "203.0.113.5:1024", "", "10.2.5.0/24", "site-00002"},
		{"behind one address, by subnet", "", "203.0.113.5:0", "", "10.1.0.0/16", "site-00001"},
		{"behind one address, no such subnet", "", "203.0.113.5:0", "", "10.9.0.0/16", ""},
	}
	for _, tt := range tests {
		q := agent.Inherited{Peer: tt.peer, Endpoint: netip.MustParseAddrPort(tt.endpoint)}
		if tt.local != "" {
			q.Local = netip.MustParseAddr(tt.local)
		}
		if tt.subnet != "" {
			q.Subnets = []netip.Prefix{netip.MustParsePrefix(tt.subnet)}
		}
		got := ""
		if x, ok := b.find(q); ok {
			got = x.tunnel.Peer
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
		list, _ := b.changed(0)
		got = ""
		if x, ok := indexOf(list).of(q); ok {
			got = x.tunnel.Peer
		}
		if got != tt.want {
			t.Errorf("%s: by index %q, want %q", tt.name, got, tt.want)
		}
	}
}

// TestReportsFit: tunnels with as many subnets as there may be go into frames, too.
func TestReportsFit(t *testing.T) {
	b := newBook()
	list := sites(1500, epoch)
	for i := range list {
		for n := range agent.MaxSubnets - 1 {
			list[i].Subnets = append(list[i].Subnets, netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, byte(n), byte(i)}), 64))
		}
	}
	b.update(epoch, 0, list)
	reports, _ := b.reports("rs1", 0)
	sink := &countingConn{}
	c := agent.NewConn(sink)
	for i := range reports {
		if err := c.Send(agent.Message{Report: &reports[i]}); err != nil {
			t.Fatal(err)
		}
	}
	if sink.n < 1<<20 {
		t.Errorf("%d bytes in all are no test", sink.n)
	}
}

// TestSharedNames: an order finds a site whether or not it is called by where it is, which differs from one real server to another.
func TestSharedNames(t *testing.T) {
	b := newBook()
	at := netip.MustParseAddrPort
	b.update(time.Now(), 0, []agent.Tunnel{{Peer: "s x at 203.0.113.11:4500", Endpoint: at("203.0.113.11:4500")}, {Peer: "s x at 203.0.113.12:4500", Endpoint: at("203.0.113.12:4500")},
		{Peer: "s y", Endpoint: at("203.0.113.13:4500")},
		{Peer: "s z at 10.0.0.1", Endpoint: at("203.0.113.14:4500")}, // an identity that looks like two
		{Peer: "s w at 10.0.0.1 at 203.0.113.15:4500", Endpoint: at("203.0.113.15:4500")},
		{Peer: "s v at 203.0.113.16", Endpoint: at("203.0.113.16:0")}})
	all, _ := b.changed(0)
	for _, tt := range []struct {
		peer, endpoint, want string
	}{
		{"s x", "203.0.113.12:4500", "s x at 203.0.113.12:4500"},
		{"s x at 203.0.113.11:4500", "203.0.113.11:4500", "s x at 203.0.113.11:4500"},
		{"s x", "203.0.113.19:4500", ""},
		{"s y at 203.0.113.13:4500", "203.0.113.13:4500", "s y"},
		{"s y at 203.0.113.19:4500", "203.0.113.19:4500", ""},
		{"s y", "203.0.113.19:4500", "s y"},
		{"s z at 10.0.0.1", "203.0.113.14:4500", "s z at 10.0.0.1"},
		{"s z at 10.0.0.1 at 203.0.113.14:4500", "203.0.113.14:4500", "s z at 10.0.0.1"},
		{"s w at 10.0.0.1", "203.0.113.15:4500", "s w at 10.0.0.1 at 203.0.113.15:4500"},
		{"s v", "203.0.113.16:0", "s v at 203.0.113.16"},
		{"s y", "203.0.113.13:0", "s y"},
	} {
		o := agent.Inherited{Peer: tt.peer, Endpoint: at(tt.endpoint)}
		for where, find := range map[string]func(agent.Inherited) (entry, bool){"book": b.find, "index": indexOf(all).of} {
			if x, up := find(o); up != (tt.want != "") || up && x.tunnel.Peer != tt.want {
				t.Errorf("%s: %s of %s found %+v, want %q", where, tt.peer, tt.endpoint, x.tunnel, tt.want)
			}
		}
	}
}
