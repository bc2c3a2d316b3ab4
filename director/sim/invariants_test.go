package sim

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
)

// check holds what must be so at any moment when no director is in the middle of something.
func (w *world) check() {
	for _, f := range w.witness.take() {
		w.fail("%s", f)
	}
	for _, n := range w.running() {
		t := n.proc.d.Table()
		if f := n.kernel.compare(t); f != "" {
			w.fail("%s: data plane and table differ: %s", n.name, f)
		}
		if f := unsplit(n.kernel, t); f != "" {
			w.fail("%s: %s", n.name, f)
		}
		var want uint64
		t.Records(func(k affinity.Kind, key string) bool {
			h, _ := t.Version(k, key)
			want ^= affinity.VersionHash(affinity.KeyHash(k, key), h)
			return true
		})
		if have, _ := n.proc.d.Digest().Root(); have != want {
			w.fail("%s: the digest is not the table's", n.name)
		}
	}
}

// compare says how the data plane differs from a table; "" if it does not. Real servers that the table has alive may be dead in the
// plane: a death is provisional at first.
func (k *kernel) compare(t *affinity.Table) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	want := map[key]plane.Target{}
	t.EachEndpoint(func(e affinity.EndpointKey, tunnel string, p, b affinity.Index) bool {
		want[key{endpoint: e}] = target(tunnel, p, b)
		return true
	})
	t.EachSubnet(func(s affinity.SubnetKey, tunnel string, p, b affinity.Index) bool {
		want[key{subnet: s}] = target(tunnel, p, b)
		return true
	})
	for at, x := range want {
		if have, ok := k.entries[at]; !ok || have != x {
			return fmt.Sprintf("%s: %+v, there %t, wanted %+v", at.words(), have, ok, x)
		}
	}
	for at := range k.entries {
		if _, ok := want[at]; !ok {
			return at.words() + " is there and not wanted"
		}
	}
	for i, alive := range k.alive {
		if l, ok := t.Life(i); alive && (!ok || !l.Alive) {
			return fmt.Sprintf("index %d of %s is alive in the plane and not in the table", i, k.names[i])
		}
	}
	return ""
}

// condemns says which real server is dead in the data plane and not in the table; "" if none is.
func (k *kernel) condemns(t *affinity.Table) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	for i, alive := range k.alive {
		if l, ok := t.Life(i); ok && l.Alive && !alive {
			return fmt.Sprintf("index %d of %s is dead in the data plane and alive in the table", i, k.names[i])
		}
	}
	return ""
}

func target(tunnel string, primary, backup affinity.Index) plane.Target {
	switch {
	case tunnel == "":
		return plane.Target{Drop: plane.DropNoPort}
	case primary == 0:
		return plane.Target{Drop: plane.DropUnplaced}
	}
	return plane.Target{Primary: primary, Backup: backup}
}

// unsplit says which tunnel of a group of which none is split is in another place than the group, or which tunnel is in two; "" if none is.
func unsplit(k *kernel, t *affinity.Table) (fault string) {
	contested := t.ContestedCount() > 0
	groups, split := map[affinity.GroupID]string{}, map[affinity.GroupID]bool{}
	t.EachSplit(func(id string) bool {
		tun, _ := t.Tunnel(id)
		split[tun.GroupID()] = true
		return true
	})
	t.Tunnels("", func(tun *affinity.Tunnel) bool {
		if contested && len(t.Contested(tun)) > 0 {
			return true
		}
		in, out := k.incoming(tun), k.outgoing(tun)
		if in != out {
			fault = fmt.Sprintf("%s goes to %q and returns by %q", tun.ID, in, out)
			return false
		}
		if split[tun.GroupID()] {
			return true
		}
		if was, known := groups[tun.GroupID()]; known && was != in {
			fault = fmt.Sprintf("group %s is at %q and at %q", tun.GroupID(), was, in)
			return false
		}
		groups[tun.GroupID()] = in
		return true
	})
	return fault
}

// unsettled says what is not yet as it must be when all is healed and quiet; "" if nothing is.
func (w *world) unsettled() string {
	var assigners []string
	var first *node
	for _, n := range w.nodes {
		if n.left {
			continue
		}
		if !n.running() {
			return n.name + " does not run"
		}
		said := n.proc.peers.said()
		if !said.Ready {
			return n.name + " is not ready"
		}
		if n.proc.peers.View().Beat.ReadyFor < preempt+time.Second {
			return n.name + " has not been ready for long"
		}
		if said.Assigns {
			assigners = append(assigners, n.name)
		}
		if first == nil {
			first = n
		}
		if d := differ(first, n); d != "" {
			return d
		}
	}
	for _, n := range w.running() {
		if f := n.kernel.condemns(n.proc.d.Table()); f != "" {
			return n.name + ": " + f
		}
	}
	if len(assigners) != 1 {
		return fmt.Sprintf("assigners: %v", assigners)
	}
	for _, a := range append([]netip.Addr{gateway}, vips...) {
		var holders []string
		for _, n := range w.nodes {
			if n.kernel.holds(a) && !n.left {
				holders = append(holders, n.name)
			}
		}
		if len(holders) != 1 {
			return fmt.Sprintf("%v is held by %v", a, holders)
		}
	}
	t := first.proc.d.Table()
	return loose(t)
}

// loose says which tunnel is without a primary or a backup that is alive; "" if all is well.
func loose(t *affinity.Table) (fault string) {
	t.Tunnels("", func(tun *affinity.Tunnel) bool {
		p, ok := t.PinOf(tun)
		if !ok || !t.AliveAt(p.Primary) || !t.AliveAt(p.Backup) {
			h, _ := t.Version(affinity.KindPin, string(tun.GroupID()))
			fault = fmt.Sprintf("%s (%v) of group %s is placed (%t) at %q (%d) and %q (%d) by %+v, version %v", tun.ID, tun.Header, tun.GroupID(), ok, t.NameAt(p.Primary), p.Primary, t.NameAt(p.Backup), p.Backup, p, h)
		}
		return fault == ""
	})
	return fault
}

// differ says how the tables of two directors differ, or one from its own disk; "" if they do not.
func differ(a, b *node) string {
	x, y := a.proc.d.Table(), b.proc.d.Table()
	rootA, countA := a.proc.d.Digest().Root()
	rootB, countB := b.proc.d.Digest().Root()
	var out []string
	y.Records(func(k affinity.Kind, key string) bool {
		h, _ := y.Version(k, key)
		other, ok := x.Version(k, key)
		if a != b && (!ok || other != h) {
			out = append(out, fmt.Sprintf("%s %q: %s has %v (%t), %s has %v", k, key, a.name, other, ok, b.name, h))
		}
		if c, ok := b.disk.record(k, key); !ok || c.Now != h {
			out = append(out, fmt.Sprintf("%s %q: %s has %v, its disk %v (%t)", k, key, b.name, h, c.Now, ok))
		}
		return len(out) < 5
	})
	if len(out) == 0 && (rootA != rootB || countA != countB) {
		out = append(out, fmt.Sprintf("digests: %s %x of %d, %s %x of %d", a.name, rootA, countA, b.name, rootB, countB))
	}
	return strings.Join(out, "; ")
}

// checkKept holds that what was acknowledged is there, or something later.
func (w *world) checkKept() {
	t := w.running()[0].proc.d.Table()
	w.witness.mu.Lock()
	acks, pushed := w.witness.acks, w.witness.pushed
	w.witness.mu.Unlock()
	for _, a := range acks {
		h, ok := t.Version(a.kind, a.key)
		switch {
		case a.lost:
		case !ok:
			w.fail("lost: %s was acknowledged as %v, and nothing is there", a.words, a.Header)
		case later(a.kind, a.Header, h):
			w.fail("lost: %s was acknowledged as %v, and %v is there", a.words, a.Header, h)
		case a.Deleted && !h.Deleted:
			tun, _ := t.Tunnel(a.key)
			if v := pushed[tun.Labels[opLabel]]; !later(a.kind, v.Header, a.Header) {
				w.fail("back: %s was acknowledged as %v, and the push of %v is there, as %v", a.words, a.Header, v.Header, h)
			}
		}
	}
}
