package inject

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tunneldirector/affinity"
)

// unsealed is a seal for tests in whose namespace there is nobody else.
func unsealed(string) error { return nil }

// conns makes n different ones.
func conns(n int) []Conn {
	all := make([]Conn, n)
	for i := range all {
		a := netip.AddrFrom4([4]byte{100, byte(64 + i>>16), byte(i >> 8), byte(i)})
		all[i] = Conn{Client: netip.AddrPortFrom(a, uint16(i%3)), VIP: at("198.51.100.1:500"), Dest: at("10.0.0.2:7"), Method: affinity.DR, Timeout: time.Minute}
	}
	return all
}

func mustOpen(t *testing.T, k kernel) *Link {
	t.Helper()
	l, err := open(Options{Seal: unsealed}, k)
	must(t, err)
	t.Cleanup(func() { must(t, l.Close()) })
	return l
}

// TestSend: what is sent has arrived when Send returns, whatever gets lost on the way, and in order: the last of each entry
// comes after the last of the one before it.
func TestSend(t *testing.T) {
	for _, tt := range []struct {
		name  string
		queue int // of the daemon
		slow  time.Duration
		every int // so many messages are lost one on the way; 0: none
		loses bool
	}{
		{"a queue of the usual size", 0, 0, 0, false},
		{"a short queue", 20000, time.Millisecond, 0, true},
		{"a cable that loses", 0, 0, 20, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			inNamespace(t)
			k := &standIn{queue: tt.queue, slow: tt.slow}
			l := mustOpen(t, k)
			full := l.size
			if tt.every > 0 {
				filterInput(t, &expr.Numgen{Register: 1, Modulus: uint32(tt.every), Type: unix.NFT_NG_INCREMENTAL},
					&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(1)}, &expr.Verdict{Kind: expr.VerdictDrop})
			}
			want := conns(20000)
			for _, part := range [][]Conn{want[:1], want[1:1], want[1:15000], want[15000:]} {
				must(t, l.Send(t.Context(), part))
			}
			last := k.last(t)
			before := -1
			for i, c := range want {
				at, ok := last[c]
				if !ok {
					t.Fatalf("entry %d did not arrive", i)
				}
				if at < before {
					t.Fatalf("entry %d came before entry %d", i, i-1)
				}
				before = at
			}
			if len(last) != len(want) {
				t.Errorf("%d entries arrived, want %d", len(last), len(want))
			}
			if lost := l.size < full; lost != tt.loses {
				t.Errorf("something was lost and sent again: %t, want %t", lost, tt.loses)
			}
		})
	}
}

// TestSendIsSlow: Send waits for a slow daemon.
func TestSendIsSlow(t *testing.T) {
	t.Parallel()
	inNamespace(t)
	k := &standIn{slow: 20 * time.Millisecond}
	l := mustOpen(t, k)
	before := time.Now()
	must(t, l.Send(t.Context(), conns(4*maxConns)))
	if took := time.Since(before); took < 80*time.Millisecond {
		t.Errorf("Send returned after %v, before the daemon can have been done", took)
	}
	if got := len(k.last(t)); got != 4*maxConns {
		t.Errorf("%d entries of %d arrived", got, 4*maxConns)
	}
}

func TestSendRefuses(t *testing.T) {
	t.Parallel()
	inNamespace(t)
	k := &standIn{}
	l := mustOpen(t, k)
	if err := l.Send(t.Context(), append(conns(3), Conn{})); err == nil || len(k.last(t)) > 0 {
		t.Errorf("error %v, %d entries arrived; want an error and none", err, len(k.last(t)))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Send(ctx, conns(3)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	must(t, k.stop())
	if err := l.Send(t.Context(), conns(3)); !errors.Is(err, errNoDaemon) {
		t.Errorf("got %v, want %v", err, errNoDaemon)
	}
}

// TestOpenReplaces: a second Open takes over from a first that was not closed, as after a crash; and Close leaves nothing.
func TestOpenReplaces(t *testing.T) {
	t.Parallel()
	inNamespace(t)
	k := &standIn{}
	_, err := open(Options{Seal: unsealed}, k)
	must(t, err)
	l, err := open(Options{Seal: unsealed}, k)
	must(t, err)
	if k.starts != 2 {
		t.Errorf("the daemon was started %d times, want 2", k.starts)
	}
	must(t, l.Send(t.Context(), conns(100)))
	if got := len(k.last(t)); got != 100 {
		t.Errorf("%d entries arrived of 100", got)
	}
	must(t, l.Close())
	if _, err := net.InterfaceByName(Interface); err == nil {
		t.Errorf("%s is still there", Interface)
	}
	if k.socket != nil {
		t.Error("the daemon was not stopped")
	}
}

// TestOpenSeals: the seal comes after the interface and before the daemon, and without one there is no link.
func TestOpenSeals(t *testing.T) {
	t.Parallel()
	inNamespace(t)
	k := &standIn{}
	if _, err := open(Options{}, k); err == nil || !strings.Contains(err.Error(), "no seal") {
		t.Errorf("without a seal: %v", err)
	}
	broken := errors.New("broken seal")
	_, err := open(Options{Seal: func(name string) error {
		if _, err := net.InterfaceByName(name); err != nil || k.starts > 0 {
			t.Errorf("sealed too early or too late: %v, daemon started %d times", err, k.starts)
		}
		return broken
	}}, k)
	if !errors.Is(err, broken) || k.starts != 0 {
		t.Errorf("error %v, daemon started %d times; want %v and none", err, k.starts, broken)
	}
	if _, err := net.InterfaceByName(Interface); err == nil {
		t.Errorf("%s is still there", Interface)
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	inNamespace(t)
	for _, tt := range []struct {
		name   string
		others []daemon
		want   []string // "" none
	}{
		{"sender", []daemon{{statePrimary, "eth0", 51}}, []string{"sends", "eth0", "51", "plane xdp"}},
		{"receiver", []daemon{{stateBackup, "eth1", 7}}, []string{"receives", "eth1", "7", "plane xdp"}},
		{"sender on our interface", []daemon{{statePrimary, Interface, 7}}, []string{"sends", Interface}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := foreign(tt.others)
			if !errors.Is(err, ErrForeign) {
				t.Fatalf("got %v, want %v", err, ErrForeign)
			}
			for _, word := range tt.want {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("%q is not in %q", word, err)
				}
			}
		})
	}
	k := &standIn{others: []daemon{{stateBackup, "eth1", 7}}}
	if _, err := open(Options{Seal: unsealed}, k); !errors.Is(err, ErrForeign) || k.starts > 0 {
		t.Errorf("error %v, started %d times; want %v and none", err, k.starts, ErrForeign)
	}
	mine := netlink.LinkAttrs{Name: Interface}
	if err := netlink.LinkAdd(&netlink.Dummy{LinkAttrs: mine}); err != nil { // not every kernel has each of them
		must(t, netlink.LinkAdd(&netlink.Bridge{LinkAttrs: mine}))
	}
	if _, err := open(Options{Seal: unsealed}, &standIn{}); err == nil || !strings.Contains(err.Error(), "not ours") {
		t.Errorf("over an interface of our name: %v", err)
	}
}

// filterInput adds a rule to the namespace's packet filter.
func filterInput(t *testing.T, rule ...expr.Any) {
	t.Helper()
	c, err := nftables.New(nftables.AsLasting())
	must(t, err)
	defer c.CloseLasting()
	table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: "test"})
	chain := c.AddChain(&nftables.Chain{Name: "input", Table: table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter})
	c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: rule})
	must(t, c.Flush())
}

// TestOpenSeesFilter: a packet filter that drops what comes by the cable is told at once.
func TestOpenSeesFilter(t *testing.T) {
	t.Parallel()
	inNamespace(t)
	mustOpen(t, &standIn{})
	filterInput(t, &expr.Verdict{Kind: expr.VerdictDrop})
	if _, err := open(Options{Seal: unsealed}, &standIn{}); !errors.Is(err, errLost) || !strings.Contains(err.Error(), "packet filter") {
		t.Errorf("got %v, want %v", err, errLost)
	}
}
