package realserver

import "tunneldirector/director/agent"

// maxReport bounds a report by a guess at its bytes, well below what a frame may have.
const maxReport = agent.MaxFrame / 2

// reports tells a director, who knows what happened up to seq, what a real server has now, and up to where it knows then. What
// changed since is told if the book still has it, else everything. There are none if there is no news.
func (b *book) reports(realServer string, seq uint64) ([]agent.Report, uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.seq == 0 || seq == b.seq:
		return nil, seq
	case seq == 0 || seq < b.floor || seq > b.seq:
		return b.whole(realServer), b.seq
	}
	up, n := b.up.since(seq)
	down, _ := b.gone.since(seq)
	p := parts{of: agent.Report{RealServer: realServer}, left: n}
	for up != nil || down != nil {
		if down == nil || up != nil && up.seq < down.seq {
			p.up(up.seq, &up.tunnel)
			up = up.after
			continue
		}
		p.down(down.seq, down.tunnel.Peer)
		down = down.after
	}
	return p.list, b.seq
}

func (b *book) whole(realServer string) []agent.Report {
	p := parts{of: agent.Report{RealServer: realServer, Whole: true}, left: b.up.n}
	p.last(b.seq) // one, even if there is nothing
	for x := b.up.first; x != nil; x = x.after {
		p.up(b.seq, &x.tunnel)
	}
	p.list[0].First, p.list[len(p.list)-1].Last = true, true
	return p.list
}

// parts cuts what is to be reported into reports within their bounds.
type parts struct {
	of    agent.Report // what all have
	list  []agent.Report
	left  int // tunnels that are still to come, for memory to be taken once
	items int // of the last one
	bytes int
}

func (p *parts) up(seq uint64, t *agent.Tunnel) {
	r := p.last(seq)
	if r.Up == nil {
		r.Up = make([]agent.Tunnel, 0, min(p.left, agent.MaxTunnels))
	}
	r.Up = append(r.Up, *t)
	p.left--
	p.items++
	p.bytes += 128 + len(t.Peer) + 24*len(t.Subnets)
}

func (p *parts) down(seq uint64, peer string) {
	r := p.last(seq)
	r.Down = append(r.Down, peer)
	p.items++
	p.bytes += 8 + len(peer)
}

// last is the report that the next tunnel goes into; it is of seq then.
func (p *parts) last(seq uint64) *agent.Report {
	if len(p.list) == 0 || p.items >= agent.MaxTunnels || p.bytes >= maxReport {
		p.list = append(p.list, p.of)
		p.items, p.bytes = 0, 0
	}
	r := &p.list[len(p.list)-1]
	r.Seq = seq
	return r
}
