package gossip

import (
	"context"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"tunneldirector/cluster"
)

// testPace and testConf go ten times as fast as the real ones.
var testPace = pace{retry: 50 * time.Millisecond, rejoin: 500 * time.Millisecond, conflict: 200 * time.Millisecond, reread: 20 * time.Millisecond, twin: 500 * time.Millisecond}

func testConf() *memberlist.Config {
	c := memberlist.DefaultLANConfig()
	c.GossipInterval, c.ProbeInterval, c.ProbeTimeout = 20*time.Millisecond, 100*time.Millisecond, 50*time.Millisecond
	c.PushPullInterval, c.SuspicionMult = time.Second, 3
	return c
}

// A director is a gossip that runs.
type director struct {
	*Gossip
	t    *testing.T
	name string
	stop func() // without a word
}

// start starts a director at an address of loopback, on any port if it has none.
func start(t *testing.T, o Options, bind string, join ...string) *director {
	t.Helper()
	return startAt(t, testPace, o, bind, join...)
}

// startAt starts one at a pace of its own.
func startAt(t *testing.T, at pace, o Options, bind string, join ...string) *director {
	t.Helper()
	if o.Cluster == "" {
		o.Cluster = "prod"
	}
	o.Bind, o.Join, o.Log = netip.MustParseAddrPort(bind), join, slog.New(slog.DiscardHandler)
	g, err := open(o, at, testConf())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	stopped := false
	d := &director{g, t, o.Self.Name, func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("%s ran until: %v", o.Self.Name, err)
		}
	}}
	t.Cleanup(d.stop)
	return d
}

// by is what a member of a name and rank needs.
func by(ring *Keyring, name string, rank int) Options {
	return Options{Self: memberOf(name, rank, netip.MustParseAddrPort("192.0.2.1:7464")), Keyring: ring}
}

// until fails unless something comes true.
func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !f(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it never came true: %s", what)
		}
	}
}

// knows waits until a director knows exactly these others.
func (d *director) knows(names ...string) {
	d.t.Helper()
	got := func() string {
		var list []string
		for _, m := range d.Members() {
			list = append(list, m.Name)
		}
		return strings.Join(list, " ")
	}
	want := strings.Join(names, " ")
	until(d.t, d.name+" knows "+want+" ("+got()+")", func() bool { return got() == want })
}

// complains waits until a problem of a director has this in it.
func (d *director) complains(part string) {
	d.t.Helper()
	until(d.t, d.name+" says "+part+" ("+strings.Join(d.Problems(), "; ")+")", func() bool { return strings.Contains(strings.Join(d.Problems(), "\n"), part) })
}

func (d *director) addr() string { return d.own.String() }

func poked(d *director) bool {
	select {
	case <-d.Changed():
		return true
	default:
		return false
	}
}

func TestThreeDirectors(t *testing.T) {
	t.Parallel()
	ring := newRing(t)
	a := start(t, by(ring, "a", 1), "127.0.0.1:0")
	b := start(t, by(ring, "b", 2), "127.0.0.2:0", a.addr())
	c := start(t, by(ring, "c", 3), "127.0.0.3:0", "localhost:1", b.addr())
	a.knows("b", "c")
	b.knows("a", "c")
	c.knows("a", "b")
	c.complains("cannot be joined: ")
	if m := a.Members()[1]; m.Rank != 3 || m.Role != cluster.RoleBoth || m.Stream.Port() != 7462 || len(m.Beats) != 1 || m.Leaving {
		t.Errorf("a knows of c: %+v", m)
	}
	if !poked(a) {
		t.Error("a was not poked")
	}

	left := make(chan error)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		left <- c.Leave(ctx)
	}()
	until(t, "a hears that c leaves before it is gone", func() bool {
		l := a.Members()
		if len(l) < 2 {
			t.Fatal("c is gone without a word")
		}
		return l[1].Leaving
	})
	poked(a) // for that
	if err := <-left; err != nil {
		t.Error(err)
	}
	until(t, "a is poked when c is gone", func() bool { return poked(a) })
	a.knows("b")
	b.knows("a")
	c.stop()
	if err := c.Leave(t.Context()); err == nil {
		t.Error("c leaves after its end")
	}
	// It comes back at once, elsewhere: who has left has no claim to its address.
	c = start(t, by(ring, "c", 3), "127.0.0.4:0", a.addr())
	a.knows("b", "c")
	c.knows("a", "b")
}

func TestRestart(t *testing.T) {
	t.Parallel()
	ring := newRing(t)
	a := start(t, by(ring, "a", 1), "127.0.0.1:0")
	b := start(t, by(ring, "b", 2), "127.0.0.2:0", a.addr())
	a.knows("b")
	was := b.addr()
	b.stop()
	b = start(t, by(ring, "b", 7), was, a.addr()) // before anybody noticed, and with another rank
	until(t, "a knows b's new rank", func() bool { l := a.Members(); return len(l) == 1 && l[0].Rank == 7 })
	b.stop()
	b = start(t, by(ring, "b", 8), "127.0.0.3:0", a.addr()) // with another address: not before the old one is dead
	until(t, "a knows b elsewhere", func() bool { return a.addrs()[b.own] && len(a.Members()) == 1 && a.Members()[0].Rank == 8 })
	b.knows("a")
}

// A director finds those that it knew by itself, and joins them even if they think that it never was away.
func TestKnownFromBefore(t *testing.T) {
	t.Parallel()
	ring := newRing(t)
	a := start(t, by(ring, "a", 1), "127.0.0.1:0")
	b := start(t, by(ring, "b", 2), "127.0.0.2:0", a.addr())
	a.knows("b")
	where := a.Addrs()["b"]
	if where != b.own {
		t.Fatalf("b gossips at %v, and a knows of %v", b.own, where)
	}
	bind := a.addr()
	a.stop()
	again := by(ring, "a", 1)
	again.Known = func() []netip.AddrPort { return []netip.AddrPort{where} }
	a = start(t, again, bind)
	a.knows("b")
	b.knows("a")
	b.stop()
	if a.ask(where) || len(a.Problems()) > 0 {
		t.Errorf("one that is known from before, and may have left, is a problem: %q", a.Problems())
	}
}

// Who is a member already is asked until one has answered.
func TestJoinsMembersToo(t *testing.T) {
	t.Parallel()
	ring := newRing(t)
	a := start(t, by(ring, "a", 1), "127.0.0.1:0")
	o := by(ring, "b", 2)
	o.Cluster, o.Bind, o.Join, o.Log = "prod", netip.MustParseAddrPort("127.0.0.2:0"), []string{a.addr()}, slog.New(slog.DiscardHandler)
	g, err := open(o, testPace, testConf())
	if err != nil {
		t.Fatal(err)
	}
	defer g.list.Shutdown()
	g.nodes["a"] = node{member: memberOf("a", 1), addr: a.own} // heard of by others' gossip
	if g.joinAll(t.Context(), false) {
		t.Error("a member is asked")
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go g.join(ctx)
	a.knows("b")
}

func TestASplitHeals(t *testing.T) {
	t.Parallel()
	ring := newRing(t)
	a := start(t, by(ring, "a", 1), "127.0.0.1:0")
	b := start(t, by(ring, "b", 2), "127.0.0.2:0", a.addr())
	a.knows("b")
	// a is gone for so long that b has forgotten it, and does not know b itself.
	was := a.addr()
	a.stop()
	b.knows()
	b.complains("director at " + was + " cannot be joined: ")
	a = start(t, by(ring, "a", 1), was)
	a.knows("b")
	b.knows("a")
	until(t, "b complains no more", func() bool { return len(b.Problems()) == 0 })
}

// TestHeard: a director whose heartbeats are heard is asked at once.
func TestHeard(t *testing.T) {
	t.Parallel()
	ring := newRing(t)
	seldom := testPace
	seldom.retry, seldom.rejoin = time.Hour, time.Hour
	b := start(t, by(ring, "b", 2), "127.0.0.1:0")
	was := b.addr()
	b.stop()
	a := startAt(t, seldom, by(ring, "a", 1), "127.0.0.2:0", was)
	a.complains("director at " + was + " cannot be joined: ")
	b = start(t, by(ring, "b", 2), was)
	a.Heard()
	a.knows("b")
	b.knows("a")
}

func TestStrangers(t *testing.T) {
	t.Parallel()
	ring := newRing(t)
	a := start(t, by(ring, "a", 1), "127.0.0.1:0")
	wrongKey := start(t, by(newRing(t), "k", 2), "127.0.0.12:0", a.addr())
	o := by(ring, "l", 3)
	o.Cluster = "test"
	wrongLabel := start(t, o, "127.0.0.13:0", a.addr())
	a.complains("is refused: it seals with a key that is not on this keyring")
	a.complains("is refused: it is of another cluster, or no director")
	wrongKey.complains("director at " + a.addr() + " cannot be joined: its keyring differs from this one's")
	wrongLabel.complains("director at " + a.addr() + " cannot be joined: ")
	if len(a.Members())+len(wrongKey.Members())+len(wrongLabel.Members()) > 0 {
		t.Error("strangers know each other")
	}
}

func TestSameNameTwice(t *testing.T) {
	t.Parallel()
	ring := newRing(t)
	a := start(t, by(ring, "a", 1), "127.0.0.1:0")
	b := start(t, by(ring, "b", 2), "127.0.0.2:0", a.addr())
	a.knows("b")
	twin := start(t, by(ring, "b", 2), "127.0.0.22:0", a.addr(), b.addr())
	for _, d := range []*director{a, b, twin} {
		d.complains("two directors have the name b, at 127.0.0.")
	}
	if !a.addrs()[b.own] || a.addrs()[twin.own] {
		t.Error("the first one has lost its place")
	}
}

func TestUnreadableMetadata(t *testing.T) {
	t.Parallel()
	ring := newRing(t)
	a := start(t, by(ring, "a", 1), "127.0.0.1:0")
	odd := by(ring, "odd", 99) // this program's configuration refuses it
	start(t, odd, "127.0.0.2:0", a.addr())
	a.complains("director odd at 127.0.0.2:")
	a.complains("is not taken for a member: its metadata says rank 99")
	a.knows()
}

func TestRotation(t *testing.T) {
	t.Parallel()
	path := newRing(t).path
	var rings []*Keyring // one file each, as on machines of their own
	for range 3 {
		k, err := OpenKeyring(path)
		if err != nil {
			t.Fatal(err)
		}
		own, err := CreateKeyring(filepath.Join(t.TempDir(), "keyring"), k.Keys()...)
		if err != nil {
			t.Fatal(err)
		}
		rings = append(rings, own)
	}
	a := start(t, by(rings[0], "a", 1), "127.0.0.1:0")
	b := start(t, by(rings[1], "b", 2), "127.0.0.2:0", a.addr())
	a.knows("b")
	old, fresh := rings[0].Keys()[0], NewKey()
	for _, step := range []func(*Keyring) error{
		func(k *Keyring) error { return k.Add(fresh) },
		func(k *Keyring) error { return k.Use(fresh) },
		func(k *Keyring) error { return k.Remove(old) },
	} {
		for _, g := range []*director{a, b} {
			command, err := OpenKeyring(g.o.Keyring.path) // another process
			if err != nil {
				t.Fatal(err)
			}
			if err := step(command); err != nil {
				t.Fatal(err)
			}
			want := command.Keys()
			until(t, "the change is taken over", func() bool {
				has := g.ring.GetKeys()
				return len(has) == len(want) && string(has[0]) == string(want[0])
			})
		}
	}
	c := start(t, by(newRing(t, fresh), "c", 3), "127.0.0.3:0", a.addr())
	c.knows("a", "b")
	b.knows("a", "c")
	if p := append(a.Problems(), b.Problems()...); len(p) > 0 {
		t.Errorf("problems of a rotation: %q", p)
	}
	start(t, by(rings[2], "late", 4), "127.0.0.4:0", a.addr()).complains("its keyring differs")
}

func TestInstall(t *testing.T) {
	ring, err := memberlist.NewKeyring([][]byte{key(2), key(3)}, key(1))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	defer close(done)
	go func() { // the race detector tells whether it is disturbed
		for {
			select {
			case <-done:
				return
			default:
				texts(ring.GetKeys())
			}
		}
	}()
	rings := [][][]byte{
		{key(1), key(2), key(3)}, {key(2), key(3), key(4)}, {key(9), key(3), key(2)}, {key(5)}, {key(6), key(5), key(7)}, {key(7), key(6)},
		{key(1), key(2), key(3), key(4)}, {key(1), key(4)},
	}
	for i := range 1000 * len(rings) {
		keys := rings[i%len(rings)]
		if err := install(ring, keys); err != nil {
			t.Fatal(err)
		}
		has := ring.GetKeys()
		if len(has) != len(keys) || string(has[0]) != string(keys[0]) {
			t.Fatalf("ring %v, want %v", texts(has), texts(keys))
		}
		for _, k := range keys {
			if index(has, k) < 0 {
				t.Fatalf("ring %v has no %v", texts(has), k[0])
			}
		}
	}
}

func texts(keys [][]byte) (out []string) {
	for _, k := range keys {
		out = append(out, string('0'+rune(k[0])))
	}
	return out
}

func TestOpenRefuses(t *testing.T) {
	ring := newRing(t)
	for want, o := range map[string]Options{
		"the names and an address": {Self: memberOf("a", 1), Bind: netip.MustParseAddrPort("127.0.0.1:0"), Keyring: ring},
		"on 0.0.0.0:7463":          {Self: memberOf("a", 1), Cluster: "prod", Bind: netip.MustParseAddrPort("0.0.0.0:7463"), Keyring: ring},
		"192.0.2.77":               {Self: memberOf("a", 1), Cluster: "prod", Bind: netip.MustParseAddrPort("192.0.2.77:7463"), Keyring: ring},
		"gossip carries":           {Self: memberOf("a", 1, make([]netip.AddrPort, 600)...), Cluster: "prod", Bind: netip.MustParseAddrPort("127.0.0.1:0"), Keyring: ring},
	} {
		o.Log = slog.New(slog.DiscardHandler)
		if _, err := Open(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

func TestResolve(t *testing.T) {
	for _, tt := range []struct{ entry, want string }{
		{"192.0.2.1", "192.0.2.1:7463"},
		{"192.0.2.1:99", "192.0.2.1:99"},
		{"2001:db8::1", "[2001:db8::1]:7463"},
		{"[2001:db8::1]", "[2001:db8::1]:7463"},
		{"[2001:db8::1]:99", "[2001:db8::1]:99"},
		{"192.0.2.1:70000", ""},
		{"192.0.2.1:http", ""},
		{"", ""},
	} {
		addrs, err := resolve(t.Context(), tt.entry, 7463)
		switch {
		case tt.want == "" && err == nil:
			t.Errorf("%q is %v", tt.entry, addrs)
		case tt.want != "" && (err != nil || len(addrs) != 1 || addrs[0].String() != tt.want):
			t.Errorf("%q is %v (%v), want %s", tt.entry, addrs, err, tt.want)
		}
	}
}
