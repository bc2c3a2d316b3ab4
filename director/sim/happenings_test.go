package sim

import (
	"context"
	"fmt"
	"slices"
	"time"

	"tunneldirector/affinity"
)

// A kind is of what may happen.
type kind struct {
	do     func(h *history)
	weight int
}

// kinds are all that happens beside pushes.
var kinds = []kind{
	{(*history).part, 4},
	{(*history).join, 4},
	{(*history).worsen, 2},
	{(*history).crash, 4},
	{(*history).lose, 2},
	{(*history).fill, 2},
	{(*history).slow, 2},
	{(*history).breakDisk, 1},
	{(*history).setClock, 2},
	{(*history).kill, 3},
	{(*history).revive, 3},
	{(*history).deafen, 2},
	{(*history).repin, 2},
	{(*history).drain, 2},
	{(*history).freeze, 1},
	{(*history).reconfigure, 2},
	{(*history).enter, 1},
	{(*history).leave, 1},
	{(*history).goBack, 1},
}

// part cuts some directors off from the others, on one path or all, in one direction or both.
func (h *history) part() {
	w := h.w
	w.witness.troubled()
	side := map[string]bool{}
	alone := w.r.IntN(len(w.nodes))
	for i, n := range w.nodes {
		side[n.name] = i != alone && (i == (alone+1)%len(w.nodes) || w.r.IntN(2) == 0)
	}
	path, oneWay := w.r.IntN(2*paths), w.r.IntN(3) == 0
	var from, to []string
	for _, a := range w.nodes {
		if side[a.name] {
			from = append(from, a.name)
		} else {
			to = append(to, a.name)
		}
		for _, b := range w.nodes {
			for p := range paths {
				if path < paths && p != path || side[a.name] == side[b.name] || oneWay && !side[a.name] {
					continue
				}
				w.network.set(way{a.name, b.name, p}, func(l *link) { l.cut = true })
			}
		}
	}
	where := "all paths"
	if path < paths {
		where = fmt.Sprintf("path %d", path)
	}
	w.tell("cut between %v and %v on %s, one way only: %t", from, to, where, oneWay)
}

// join ends all cuts and losses.
func (h *history) join() {
	w := h.w
	w.tell("all ways are open")
	for _, a := range w.nodes {
		for _, b := range w.nodes {
			for p := range paths {
				w.network.set(way{a.name, b.name, p}, func(l *link) {
					l.cut, l.loss, l.twice, l.delay, l.jitter = false, 0, 0, 200*time.Microsecond, 100*time.Microsecond
				})
			}
		}
	}
}

// worsen has a way lose, double, delay and reorder.
func (h *history) worsen() {
	w := h.w
	w.witness.troubled()
	i := w.r.IntN(len(w.nodes))
	a, b := w.nodes[i], w.nodes[(i+1+w.r.IntN(len(w.nodes)-1))%len(w.nodes)]
	loss, twice := w.r.Float64()*0.6, w.r.Float64()*0.5
	delay := time.Duration(w.r.IntN(80)) * time.Millisecond
	w.tell("from %s to %s: loss %.2f, twice %.2f, delay %v", a.name, b.name, loss, twice, delay)
	for p := range paths {
		w.network.set(way{a.name, b.name, p}, func(l *link) { l.loss, l.twice, l.delay, l.jitter = loss, twice, delay, delay })
	}
}

// crash ends a process, and starts it again after a while.
func (h *history) crash() { h.end(false) }

// lose is a power cut.
func (h *history) lose() { h.end(true) }

func (h *history) end(lost bool) {
	w, n := h.w, h.any()
	if n == nil {
		return
	}
	w.witness.troubled()
	away := time.Duration(100+w.r.IntN(6000)) * time.Millisecond
	w.tell("%s crashes, power lost: %t; back after %v", n.name, lost, away)
	w.oracle.change()
	n.crash(lost)
	if lost {
		n.kernel = newKernel()
	}
	h.back(n, away)
}

// back starts a director later.
func (h *history) back(n *node, after time.Duration) {
	h.w.later(after, func() {
		if n.left || n.running() {
			return
		}
		n.crash(false)
		h.w.tell("%s starts", n.name)
		h.w.oracle.change()
		h.w.start(n)
		h.w.gossip()
	})
}

// fill fills a disk for a while.
func (h *history) fill() {
	w, n := h.w, h.w.nodes[h.w.r.IntN(len(h.w.nodes))]
	w.witness.troubled()
	long := time.Duration(500+w.r.IntN(6000)) * time.Millisecond
	w.tell("the disk of %s is full for %v", n.name, long)
	n.disk.set(func(d *disk) { d.full = true })
	w.later(long, func() { n.disk.set(func(d *disk) { d.full = false }) })
}

// slow makes a disk slow for a while.
func (h *history) slow() {
	w, n := h.w, h.w.nodes[h.w.r.IntN(len(h.w.nodes))]
	w.witness.troubled()
	long, each := time.Duration(500+w.r.IntN(6000))*time.Millisecond, time.Duration(50+w.r.IntN(3000))*time.Millisecond
	w.tell("the disk of %s takes %v for each commit, for %v", n.name, each, long)
	n.disk.set(func(d *disk) { d.slow = each })
	w.later(long, func() { n.disk.set(func(d *disk) { d.slow = 0 }) })
}

// breakDisk has the next commit fail in the middle, which ends the process.
func (h *history) breakDisk() {
	n := h.any()
	if n == nil {
		return
	}
	h.w.witness.troubled()
	h.w.tell("the next commit of %s fails in the middle", n.name)
	n.disk.set(func(d *disk) { d.fails = true })
	for _, after := range []time.Duration{2 * time.Second, 4 * time.Second} {
		h.back(n, after)
	}
}

// setClock puts a clock off, by up to some minutes.
func (h *history) setClock() {
	w, n := h.w, h.w.nodes[h.w.r.IntN(len(h.w.nodes))]
	off := time.Duration(w.r.IntN(2*600)-600) * time.Second
	if w.r.IntN(3) == 0 {
		off = time.Duration(w.r.IntN(120)-60) * time.Second
	}
	w.tell("the clock of %s is off by %v", n.name, off)
	n.clock.set(off)
}

// kill ends a real server.
func (h *history) kill() {
	w := h.w
	rs := fmt.Sprintf("rs%d", 1+w.r.IntN(4))
	w.tell("%s dies", rs)
	w.oracle.change()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down[rs] = true
}

// revive has all real servers answer again.
func (h *history) revive() {
	w := h.w
	w.tell("all real servers answer")
	w.oracle.change()
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.down)
	clear(w.deaf)
}

// deafen has a real server not answer one director.
func (h *history) deafen() {
	w := h.w
	rs, n := fmt.Sprintf("rs%d", 1+w.r.IntN(4)), w.nodes[w.r.IntN(len(w.nodes))]
	w.tell("%s does not answer %s", rs, n.name)
	w.oracle.change()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.deaf[[2]string{n.name, rs}] = true
}

// repin moves a group.
func (h *history) repin() {
	w := h.w
	g := affinity.GroupID(tunnelID(w.r.IntN(tunnels)))
	if w.r.IntN(3) == 0 {
		g = affinity.GroupID(fmt.Sprintf("@nat-%d", w.r.IntN(2)))
	}
	to := []string{"", "rs1", "rs2", "rs3", "rs4"}[w.r.IntN(5)]
	n := h.any()
	if n == nil {
		return
	}
	x := w.witness
	x.mu.Lock()
	x.repins[g] = true
	if tun, ok := n.proc.d.Table().Tunnel(string(g)); ok {
		x.repins[tun.GroupID()] = true
	}
	x.mu.Unlock()
	h.do(n, fmt.Sprintf("repin %s to %q", g, to), affinity.Repin{By: operator, Group: g, To: to, Why: affinity.WhyRepinned})
}

// drain empties a real server, at once or slowly, or lets it be filled again.
func (h *history) drain() {
	w, n := h.w, h.any()
	if n == nil {
		return
	}
	rs := fmt.Sprintf("rs%d", 1+w.r.IntN(4))
	op := affinity.SetAdmin{By: operator, Name: rs}
	if w.r.IntN(2) == 0 {
		op.Admin, op.Drain = affinity.Drained, &affinity.Drain{Milli: 1000, By: affinity.NewStamp(n.clock.read().Add(3*time.Second), 0)}
		w.witness.mu.Lock()
		w.witness.drained[rs] = true
		w.witness.mu.Unlock()
	}
	h.do(n, fmt.Sprintf("%s %s", rs, op.Admin), op)
}

func (h *history) freeze() {
	on := h.w.r.IntN(2) == 0
	h.do(h.any(), fmt.Sprintf("freeze %t", on), affinity.SetFreeze{By: operator, On: on})
}

// reconfigure changes a real server or a service, or adds a real server or takes one away.
func (h *history) reconfigure() {
	w := h.w
	switch w.r.IntN(4) {
	case 0:
		h.do(h.any(), "a real server's weight", realServer(1+w.r.IntN(4), uint32(1+w.r.IntN(200))))
	case 1:
		op := services()[1].(affinity.PutService)
		op.Service.Policy = affinity.Policy(w.r.IntN(2))
		h.do(h.any(), "a service's policy", op)
	case 2:
		h.do(h.any(), "rs5 is put", realServer(5, 100))
	case 3:
		h.do(h.any(), "rs5 is removed", affinity.DeleteRealServer{By: operator, Name: "rs5", Force: true})
	}
}

// enter adds a director with an empty disk.
func (h *history) enter() {
	w := h.w
	if len(w.nodes) >= 5 {
		return
	}
	w.witness.troubled()
	n := w.newNode(newMember(len(w.nodes)+1, len(w.nodes)+1))
	w.tell("%s is new", n.name)
	w.oracle.change()
	w.start(n)
	w.later(time.Duration(w.r.IntN(1000))*time.Millisecond, w.gossip)
}

// leave takes a director out for good, if enough are left.
func (h *history) leave() {
	w, n := h.w, h.any()
	stay := slices.DeleteFunc(w.running(), func(o *node) bool { return o.leaving })
	if n == nil || n.leaving || len(stay) < 3 || w.parted() {
		return
	}
	n.leaving = true
	w.witness.troubled()
	w.tell("%s leaves", n.name)
	w.oracle.change()
	p := n.proc
	w.clients.Go(func() {
		ctx, cancel := context.WithTimeout(w.ctx, 3*time.Second)
		defer cancel()
		_ = p.d.Leave(ctx)
	})
	w.later(4*time.Second, func() {
		w.tell("%s has left", n.name)
		n.crash(false)
		n.quit()
		w.witness.diskLost()
		w.gossip()
	})
}

// goBack copies a disk, and later starts the director from the copy.
func (h *history) goBack() {
	w, n := h.w, h.w.nodes[h.w.r.IntN(len(h.w.nodes))]
	if n.left {
		return
	}
	w.tell("the disk of %s is copied", n.name)
	old := n.disk.copied()
	w.later(time.Duration(2000+w.r.IntN(6000))*time.Millisecond, func() {
		if n.left {
			return
		}
		w.witness.troubled()
		w.tell("%s starts from the copy", n.name)
		n.crash(false)
		n.put(old)
		w.witness.diskLost()
		w.start(n)
		w.gossip()
	})
}
