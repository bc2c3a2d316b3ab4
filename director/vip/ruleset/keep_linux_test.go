package ruleset

import (
	"context"
	"encoding/binary"
	"errors"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	rtnl "github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"tunneldirector/integration/spaces"
)

// namespace gives the test a network namespace and a thread of its own.
func namespace(t *testing.T) {
	t.Helper()
	spaces.Root(t)
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	ns, err := netns.New()
	must(t, err)
	t.Cleanup(func() { ns.Close() })
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// trial is a table with one of everything.
func trial(layout string) *Table {
	t := New("trial", layout)
	t.Counter("dropped")
	t.Set("names", nftables.TypeIFName)
	t.Set("pairs", nftables.TypeIPAddr, nftables.TypeInetService)
	t.Ranges("covers", nftables.TypeIFName, nftables.TypeIPAddr)
	c, in := t.Chain("further"), t.Hook("input", nftables.ChainHookInput, 17)
	t.Rule(c, Within("pairs", Src(4), Transport(2, 2)), Drop("dropped"))
	t.Rule(in, Family(4), Within("covers", In(), Dst(4)), Jump(c))
	t.Rule(in, Without("names", Out()), Accept())
	t.Timed("moments", nftables.TypeInetService)
	t.Rule(in, Within("moments", Transport(2, 2)), Limit(20), Log(7, 114, "word"))
	return t
}

func open(t *testing.T, table *Table) *Keeper {
	t.Helper()
	k, err := Open(table)
	must(t, err)
	t.Cleanup(func() { k.Close() })
	return k
}

// many are n elements for the set covers.
func many(n int) Elements {
	e := Elements{}
	for i := range n {
		first := append(Name("in0"), 10, byte(i>>7), byte(i<<1), 0)
		e.AddRange(first, append(slices.Clone(first[:19]), 255))
	}
	return e
}

func TestKeep(t *testing.T) {
	namespace(t)
	k := open(t, trial("a"))
	foreign := k.conn.AddTable(&nftables.Table{Name: "somebody", Family: nftables.TableFamilyINet})
	k.conn.AddChain(&nftables.Chain{Name: "theirs", Table: foreign})
	must(t, k.conn.Flush())

	want := map[string]Elements{"names": {}, "pairs": {}, "covers": many(1200)}
	want["names"].Add(Name("eth0"))
	want["pairs"].Add([]byte{192, 0, 2, 1}, []byte{1, 244})
	fewer := map[string]Elements{"covers": many(1000), "names": want["names"]}
	keep := func(name string, k *Keeper, e map[string]Elements, want Changes) {
		t.Helper()
		if got, err := k.Keep(t.Context(), e); err != nil || got != want {
			t.Fatalf("%s: changed %+v, error %v; want %+v", name, got, err, want)
		}
	}
	keep("first", k, want, Changes{true, 1202, 0})
	keep("again", k, want, Changes{})
	keep("difference", k, fewer, Changes{false, 0, 200}) // pairs are not named, and stay
	keep("back", k, want, Changes{false, 200, 0})
	keep("a second keeper", open(t, trial("a")), want, Changes{})

	spoilers := map[string]func(){
		"rule deleted": func() {
			rules, err := k.conn.GetRules(k.want.table, k.want.chains[1])
			must(t, err)
			must(t, k.conn.DelRule(rules[0]))
		},
		"rule added": func() {
			r := *k.want.rules[0]
			r.UserData = nil
			k.conn.InsertRule(&r)
		},
		"chain added":    func() { k.conn.AddChain(&nftables.Chain{Name: "extra", Table: k.want.table}) },
		"dormant":        func() { putToSleep(t, "trial") },
		"chains flushed": func() { k.conn.FlushTable(k.want.table) },
		"set added": func() {
			must(t, k.conn.AddSet(&nftables.Set{Table: k.want.table, Name: "more", KeyType: nftables.TypeMark}, nil))
		},
	}
	for name, spoil := range spoilers {
		spoil()
		must(t, k.conn.Flush())
		if _, intact, err := k.Holds("names"); err != nil || intact {
			t.Fatalf("%s: intact %v (%v)", name, intact, err)
		}
		keep(name, k, map[string]Elements{"covers": many(3)}, Changes{true, 5, 0})
		keep(name+", again", k, want, Changes{false, 1197, 0})
		if e, intact, err := k.Holds("names"); err != nil || !intact || len(e) != 1 {
			t.Fatalf("%s: afterwards intact %v, %d names (%v)", name, intact, len(e), err)
		}
	}
	keep("another layout", open(t, trial("b")), map[string]Elements{}, Changes{true, 1202, 0})
	k.conn.DelTable(k.want.table)
	must(t, k.conn.Flush())
	keep("table deleted", k, map[string]Elements{}, Changes{true, 0, 0})

	must(t, k.Remove())
	must(t, k.Remove())
	tables, err := k.conn.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil || len(tables) != 1 || tables[0].Name != "somebody" {
		t.Fatalf("left after removal: %v, %v; want somebody's table alone", tables, err)
	}
	if c, err := k.Counters(); err != nil || len(c) > 0 {
		t.Errorf("counters of no table: %v, %v", c, err)
	}
}

func TestKeepAllOrNothing(t *testing.T) {
	namespace(t)
	k := open(t, trial("a"))
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := k.Keep(cancelled, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	bad := Elements{}
	bad.Add([]byte("a key that is longer than the set's"))
	if _, err := k.Keep(t.Context(), map[string]Elements{"names": bad}); err == nil {
		t.Error("a key of the wrong length was taken")
	}
	if table, err := k.find(); err != nil || table != nil {
		t.Errorf("after a refusal: table %v (%v), want none", table, err)
	}
	if ch, err := k.Keep(t.Context(), map[string]Elements{"covers": many(2)}); err != nil || ch.Added != 2 {
		t.Errorf("afterwards: %+v (%v)", ch, err)
	}
}

// Make puts another table in the place of what is there, gives what is timed its time anew, and keeps that table from then on.
func TestMake(t *testing.T) {
	namespace(t)
	k := open(t, trial("a"))
	_, err := k.Keep(t.Context(), map[string]Elements{"covers": many(3)})
	must(t, err)
	next := New("trial", "a") // of the same layout: it is not asked
	next.Timed("moments", nftables.TypeIFName)
	next.Rule(next.Hook("in", nftables.ChainHookPrerouting, 0), Within("moments", In()), Limit(1), Log(7, 20, "x"))
	const lasts = 300 * time.Millisecond
	for range 2 {
		on := Elements{}
		on.AddFor(time.Hour, Name("eth0"))
		on.AddFor(lasts, Name("eth1"))
		must(t, k.Make(t.Context(), next, map[string]Elements{"moments": on}))
		have, intact, err := k.Holds("moments")
		if err != nil || !intact || !have.Has(Name("eth0")) {
			t.Fatalf("holds %v, intact %v (%v)", have, intact, err)
		}
		time.Sleep(lasts + 100*time.Millisecond) // the kernel counts in its own ticks
		if have, _, err = k.Holds("moments"); err != nil || !have.Has(Name("eth0")) || have.Has(Name("eth1")) {
			t.Errorf("after %v: holds %v (%v)", lasts, have, err)
		}
	}
	bad := Elements{}
	bad.Add([]byte("a key that is longer than the set's"))
	if err := k.Make(t.Context(), trial("b"), map[string]Elements{"names": bad}); err == nil {
		t.Error("a key of the wrong length was taken")
	}
	if _, intact, err := k.Holds("moments"); err != nil || !intact {
		t.Errorf("after a refusal: intact %v (%v)", intact, err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := k.Make(cancelled, next, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestCountersOutliveKeeper(t *testing.T) {
	namespace(t)
	table := New("trial", "a")
	table.Counter("seen", "other")
	out := table.Hook("output", nftables.ChainHookOutput, 0)
	table.Rule(out, Is(Protocol(), unix.IPPROTO_UDP), Is(Transport(2, 2), 0, 9), Count("seen"))
	k := open(t, table)
	_, err := k.Keep(t.Context(), nil)
	must(t, err)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	must(t, err)
	defer unix.Close(fd)
	lo, err := rtnl.LinkByName("lo")
	must(t, err)
	must(t, rtnl.LinkSetUp(lo))
	for range 3 {
		must(t, unix.Sendto(fd, []byte("?"), 0, &unix.SockaddrInet4{Port: 9, Addr: [4]byte{127, 0, 0, 1}}))
	}
	must(t, k.Close())
	c, err := open(t, table).Counters()
	if err != nil || c["seen"].Packets != 3 || c["seen"].Bytes != 3*29 || c["other"].Packets != 0 || len(c) != 2 {
		t.Errorf("counted %v (%v), want 3 packets of 29 bytes seen", c, err)
	}
}

// putToSleep sets the table's flag dormant, which google/nftables does not write.
func putToSleep(t *testing.T, name string) {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	must(t, err)
	defer c.Close()
	msg := func(kind int, flags netlink.HeaderFlags, family, resource byte, attrs []byte) netlink.Message {
		return netlink.Message{Header: netlink.Header{Type: netlink.HeaderType(kind), Flags: netlink.Request | flags},
			Data: append([]byte{family, unix.NFNETLINK_V0, 0, resource}, attrs...)}
	}
	ae := netlink.NewAttributeEncoder()
	ae.ByteOrder = binary.BigEndian
	ae.String(unix.NFTA_TABLE_NAME, name)
	ae.Uint32(unix.NFTA_TABLE_FLAGS, unix.NFT_TABLE_F_DORMANT)
	attrs, err := ae.Encode()
	must(t, err)
	_, err = c.SendMessages([]netlink.Message{
		msg(unix.NFNL_MSG_BATCH_BEGIN, 0, 0, unix.NFNL_SUBSYS_NFTABLES, nil),
		msg(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWTABLE, netlink.Acknowledge, unix.NFPROTO_INET, 0, attrs),
		msg(unix.NFNL_MSG_BATCH_END, 0, 0, unix.NFNL_SUBSYS_NFTABLES, nil),
	})
	must(t, err)
	_, err = c.Receive()
	must(t, err)
}
