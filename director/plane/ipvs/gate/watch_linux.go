package gate

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
	"tunneldirector/director/vip/ruleset"
)

// WatchTable is the table of a watch, family inet. It is there only while somebody watches.
const WatchTable = "tunneldirector-watch"

// setWatched holds the interfaces whose packets are watched, until the watch is over: so it ends by itself if the daemon dies.
const setWatched = "watched"

func openWatch() (*ruleset.Keeper, error) { return ruleset.Open(ruleset.New(WatchTable, "")) }

// Watch has packets shown that come in by these interfaces and fit w, whatever becomes of them, at most shownWatched a second; it
// takes the place of the watch before. It lasts that long; after none, or less, nothing is watched any more.
func (l *Log) Watch(w plane.Watch, interfaces []string, lasts time.Duration) error {
	if lasts <= 0 {
		if err := l.watch.Remove(); err != nil {
			return fmt.Errorf("end the watch of packets: %w", err)
		}
		return nil
	}
	if err := checkWatch(w); err != nil {
		return fmt.Errorf("watch packets: %w", err)
	}
	on := ruleset.Elements{}
	for _, name := range interfaces {
		if !validName(name) {
			return fmt.Errorf("watch packets by interface %q: not an interface name (1 to %d bytes)", name, maxInterfaceName)
		}
		on.AddFor(max(lasts, time.Millisecond), ruleset.Name(name)) // the kernel counts in these, and takes 0 for ever
	}
	if err := l.watch.Make(context.Background(), watchStructure(w), map[string]ruleset.Elements{setWatched: on}); err != nil {
		return fmt.Errorf("watch packets: %w", err)
	}
	return nil
}

func checkWatch(w plane.Watch) error {
	for _, p := range []netip.Prefix{w.Src, w.Dst} {
		if p.Addr().Is4In6() {
			return fmt.Errorf("prefix %v: write it as IPv4", p)
		}
	}
	if w.Src.IsValid() && w.Dst.IsValid() && w.Src.Addr().Is4() != w.Dst.Addr().Is4() {
		return fmt.Errorf("from %v to %v: want prefixes of one family", w.Src, w.Dst)
	}
	return nil
}

// watchStructure sees packets before they are routed, and before any filter but those at the same place.
func watchStructure(w plane.Watch) *ruleset.Table {
	t := ruleset.New(WatchTable, "watch1")
	t.Timed(setWatched, nftables.TypeIFName)
	show := t.Chain("show")
	t.Rule(show, ruleset.Limit(shownWatched), ruleset.Log(Group, snapshot, wordWatched))
	in := t.Hook("in", nftables.ChainHookPrerouting, *nftables.ChainPriorityRaw)
	for _, v := range []int{4, 6} {
		if !fitsFamily(w.Src, v) || !fitsFamily(w.Dst, v) {
			continue
		}
		from := [][]expr.Any{ruleset.Within(setWatched, ruleset.In()), ruleset.Family(v), inside(ruleset.Src(v), w.Src), inside(ruleset.Dst(v), w.Dst)}
		for _, transport := range transports(w) {
			t.Rule(in, append(slices.Clip(from), transport, ruleset.Jump(show))...)
		}
	}
	return t
}

func fitsFamily(p netip.Prefix, v int) bool { return !p.IsValid() || p.Addr().Is4() == (v == 4) }

func inside(f ruleset.Field, p netip.Prefix) []expr.Any {
	if !p.IsValid() || p.Bits() == 0 {
		return nil
	}
	return ruleset.Is(ruleset.Masked(f, net.CIDRMask(p.Bits(), p.Addr().BitLen())), p.Masked().Addr().AsSlice()...)
}

// transports match protocol and ports, one for each protocol that carries ports if w asks for some.
func transports(w plane.Watch) [][]expr.Any {
	if w.SrcPort == 0 && w.DstPort == 0 {
		if w.Proto == 0 {
			return [][]expr.Any{nil}
		}
		return [][]expr.Any{ruleset.Is(ruleset.Protocol(), w.Proto)}
	}
	var out [][]expr.Any
	for proto := range uint8(255) {
		if !affinity.HasPorts(proto) || w.Proto != 0 && w.Proto != proto {
			continue
		}
		match := ruleset.Is(ruleset.Protocol(), proto)
		for i, port := range []uint16{w.SrcPort, w.DstPort} {
			if port != 0 {
				match = append(match, ruleset.Is(ruleset.Transport(uint32(2*i), 2), byte(port>>8), byte(port))...)
			}
		}
		out = append(out, match)
	}
	return out
}
