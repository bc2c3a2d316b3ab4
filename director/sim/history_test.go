package sim

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing/synctest"
	"time"

	"tunneldirector/affinity"
)

const (
	turn        = 100 * time.Millisecond // between looks
	tunnels     = 20                     // that there may be
	setUp       = 9 * time.Second
	quiet       = 45 * time.Second // within which all is settled after everything has healed
	undisturbed = 2 * time.Second  // for which it then stays so
)

// A history is what happens in a world.
type history struct {
	w      *world
	pushes int
	kinds  []kind // of what happens in this one
}

// begin starts some directors, and has them hold services and tunnels.
func (h *history) begin() {
	w := h.w
	count := []int{2, 2, 3, 3, 3, 3, 4, 5}[w.r.IntN(8)]
	ranks := w.r.Perm(count)
	for i := range count {
		w.newNode(newMember(i+1, ranks[i]+1))
	}
	for _, n := range w.nodes {
		w.start(n)
	}
	w.tell("%d directors of ranks %v", count, ranks) // from 0
	h.pass(setUp)
	h.do(w.nodes[0], "", services()...)
	h.pass(1500 * time.Millisecond)
	for range tunnels / 2 {
		h.push(h.any())
	}
	h.pass(time.Second)
	if h.kinds = slices.Clone(kinds); w.r.IntN(3) > 0 { // some kinds only, and so more of each
		w.r.Shuffle(len(h.kinds), func(i, j int) { h.kinds[i], h.kinds[j] = h.kinds[j], h.kinds[i] })
		h.kinds = h.kinds[:len(kinds)/2]
	}
}

// pass lets time go by, and looks all along.
func (h *history) pass(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end) && !h.w.t.Failed(); {
		time.Sleep(min(turn, time.Until(end)))
		synctest.Wait()
		h.w.keep()
		h.w.oracle.look()
	}
}

// trouble has things happen, one after the other, with little time between them.
func (h *history) trouble() {
	w := h.w
	for range 20 + w.r.IntN(25) {
		if w.t.Failed() {
			return
		}
		h.happen()
		h.pass(time.Duration(20+w.r.IntN(1200)) * time.Millisecond)
		synctest.Wait()
		w.check()
	}
}

// any is one of the directors that run, or nil.
func (h *history) any() *node {
	if run := h.w.running(); len(run) > 0 {
		return run[h.w.r.IntN(len(run))]
	}
	return nil
}

// happen has one thing happen.
func (h *history) happen() {
	w := h.w
	if w.r.IntN(2) == 0 {
		h.push(h.any())
		return
	}
	sum := 0
	for _, k := range h.kinds {
		sum += k.weight
	}
	x := w.r.IntN(sum)
	for _, k := range h.kinds {
		if x -= k.weight; x < 0 {
			k.do(h)
			return
		}
	}
}

// do asks a director for changes, as a client does that waits for the answer elsewhere.
func (h *history) do(n *node, words string, ops ...affinity.Op) {
	if n == nil || !n.running() {
		return
	}
	p, d, since := n.proc, n.disk, time.Now()
	if words != "" {
		h.w.tell("%s: %s", n.name, words)
	}
	h.w.clients.Go(func() {
		ctx, cancel := context.WithTimeout(h.w.ctx, 20*time.Second)
		defer cancel()
		results, err := p.d.Do(ctx, ops)
		if err != nil || p.dead.Load() {
			return // nobody knows what has become of it
		}
		for i, r := range results {
			h.w.witness.answered(n, d, words, ops[i], since, r)
			if r.Err != nil && !refused(r.Err) {
				h.w.tell("%s answered %s with %v", n.name, words, r.Err)
			}
		}
		soon, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
		defer cancel()
		disks := h.w.disks()
		have := p.peers.Await(soon, results[len(results)-1].Revision, -1)
		for i, r := range results {
			h.w.witness.replicated(n, words, ops[i], r, have, disks)
		}
	})
}

// push sends a director some change of tunnels.
func (h *history) push(n *node) {
	if n == nil {
		return
	}
	w := h.w
	switch x := w.r.IntN(10); {
	case x < 6:
		op, words := h.put(w.r.IntN(tunnels))
		h.do(n, words, op)
	case x < 8:
		id := tunnelID(w.r.IntN(tunnels))
		h.do(n, "delete "+id, affinity.DeleteTunnel{By: nms, ID: id})
	default: // the same one through several
		i := w.r.IntN(tunnels)
		for range 3 {
			if w.r.IntN(4) == 0 {
				h.do(h.any(), "delete "+tunnelID(i), affinity.DeleteTunnel{By: nms, ID: tunnelID(i)})
				continue
			}
			op, words := h.put(i)
			h.do(h.any(), words, op)
		}
	}
}

// put is a tunnel as the NMS wants it this time.
func (h *history) put(i int) (affinity.Op, string) {
	w := h.w
	h.pushes++
	label := fmt.Sprint(h.pushes)
	at := i
	if w.r.IntN(12) == 0 {
		at = w.r.IntN(tunnels) // what may be another's
	}
	tun := &affinity.Tunnel{ID: tunnelID(i), Service: "ipsec", Bandwidth: uint64(w.r.IntN(3)) * 1_000_000, Labels: map[string]string{opLabel: label},
		Endpoints: []affinity.Endpoint{netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(1 + at)}), 0)},
		Subnets:   []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64, byte(at), 0}), 24)}}
	if w.r.IntN(10) < 7 {
		tun.State = affinity.StateUp
	}
	if i%4 == 3 && w.r.IntN(10) < 7 {
		tun.Group = fmt.Sprintf("nat-%d", w.r.IntN(2))
	}
	if i%5 == 4 {
		tun.Service = "wg"
		if tun.Group != "" {
			tun.Group += "-wg"
		}
	}
	return affinity.PutTunnel{By: nms, Tunnel: tun}, fmt.Sprintf("put %s (%s, group %q, endpoint %v, state %d) as push %s", tun.ID, tun.Service, tun.Group, tun.Endpoints[0].Addr(), tun.State, label)
}

// heal ends all that is wrong, but clocks.
func (h *history) heal() {
	w := h.w
	w.tell("everything heals")
	for _, a := range w.agenda {
		a.do()
	}
	w.agenda = nil
	w.mu.Lock()
	clear(w.down)
	clear(w.deaf)
	w.mu.Unlock()
	h.join()
	for _, n := range w.nodes {
		n.disk.set(func(d *disk) { d.full, d.fails, d.slow = false, false, 0 })
	}
	h.raise()
	w.gossip()
}

// raise starts who does not run.
func (h *history) raise() {
	for _, n := range h.w.nodes {
		if !n.left && !n.running() {
			n.crash(false)
			h.w.tell("%s starts", n.name)
			h.w.start(n)
			h.w.gossip()
		}
	}
}

// undo takes back what operators did, as far as a director knows of it.
func (h *history) undo(n *node) {
	t := n.proc.d.Table()
	if t.Freeze().On {
		h.do(n, "thaw", affinity.SetFreeze{By: operator})
	}
	for _, rs := range t.RealServers() {
		if rs.Admin != affinity.Active {
			h.do(n, "undrain "+rs.Name, affinity.SetAdmin{By: operator, Name: rs.Name})
		}
	}
}

// settle waits until all directors agree, lets some time go by, and sees that they still do.
func (h *history) settle() {
	w := h.w
	for _, what := range []string{"settled", "settled for good"} {
		if why := h.await(quiet); w.t.Failed() {
			return
		} else if why != "" {
			w.fail("not %s %v after everything had healed: %s", what, quiet, why)
			return
		}
		w.tell("%s", what)
		w.witness.calm()
		h.pass(undisturbed)
	}
}

// await waits until nothing is unsettled, and says what is at the end.
func (h *history) await(most time.Duration) (why string) {
	for end := time.Now().Add(most); time.Now().Before(end) && !h.w.t.Failed(); {
		h.pass(500 * time.Millisecond)
		h.raise() // a commit that was under way may have ended a process since
		h.undo(h.any())
		if why = h.w.unsettled(); why == "" {
			break
		}
	}
	return why
}

// calm: from now on two placements of one group are a fault.
func (x *witness) calm() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.trouble = false
}

func (x *witness) troubled() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.trouble = true
}
