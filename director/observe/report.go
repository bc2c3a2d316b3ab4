package observe

import (
	"fmt"
	"net/netip"
	"time"

	"tunneldirector/director/agent"
)

// maxSubnets bounds those of all tunnels of one real server.
const maxSubnets = 10 * agent.MaxReported

// report takes a Report in, and answers what is known then; nothing within a whole report. After an error the stream is of no use.
func (b *Book) report(l *line, r *agent.Report) (*agent.Known, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.servers[r.RealServer]
	if s == nil || s.line != l {
		return nil, fmt.Errorf("report about real server %q: this agent does not speak for it", r.RealServer)
	}
	switch {
	case r.Seq == 0:
		return nil, fmt.Errorf("report about real server %s without a number", s.name)
	case r.Whole && r.First:
		s.round++
		s.filling, s.filled = r.Seq, 0
	case r.Whole && s.filling != r.Seq:
		return nil, fmt.Errorf("report %d about real server %s goes on where none began", r.Seq, s.name)
	case !r.Whole && s.filling != 0:
		return nil, fmt.Errorf("report %d about real server %s is of changes, within a whole one", r.Seq, s.name)
	case !r.Whole && s.seq == 0:
		return nil, fmt.Errorf("report %d about real server %s is of changes, and nothing is known that they could be of", r.Seq, s.name)
	case !r.Whole && r.Seq <= s.seq:
		return &agent.Known{RealServer: s.name, Seq: s.seq}, nil // sent again
	}
	now := b.now()
	if err := b.take(s, r, now); err != nil {
		return nil, err
	}
	if r.Whole && !r.Last {
		return nil, nil
	}
	if r.Whole {
		b.supersede(s, now)
		s.filling = 0
	}
	s.seq = r.Seq
	b.sweep(now)
	b.poke()
	return &agent.Known{RealServer: s.name, Seq: s.seq}, nil
}

// take notes what a report lists, within bounds. Of an agent that has always other peers, those it told of before go first.
func (b *Book) take(s *server, r *agent.Report, now time.Time) error {
	for _, t := range r.Up {
		x, news := b.see(s, t, now)
		if r.Whole && x.round != s.round {
			x.round = s.round
			s.filled++
		}
		if news {
			b.tell(x)
		}
	}
	for _, peer := range r.Down {
		if x, ok := s.peers[peer]; ok {
			b.lose(x, now)
		}
	}
	if r.Whole && s.established() > 2*agent.MaxReported {
		b.supersede(s, now)
	}
	if r.Whole && s.filled > agent.MaxReported || !r.Whole && s.established() > agent.MaxReported {
		return fmt.Errorf("real server %s has over %d tunnels established", s.name, agent.MaxReported)
	}
	for s.subnets > maxSubnets && s.gone.Len() > 0 {
		b.drop(s.gone.Front().Value.(*record))
	}
	if s.subnets > maxSubnets {
		return fmt.Errorf("the tunnels of real server %s have over %d subnets", s.name, maxSubnets)
	}
	return nil
}

// supersede ends what a whole report does not list.
func (b *Book) supersede(s *server, now time.Time) {
	for _, x := range s.peers {
		if x.round != s.round {
			b.lose(x, now)
		}
	}
}

// see notes an established tunnel of a server. It tells whether it is news.
func (b *Book) see(s *server, t agent.Tunnel, now time.Time) (x *record, news bool) {
	x, known := s.peers[t.Peer]
	if t.Since.After(now) { // by a clock that is ahead: it would pass for the newest wherever else it is established later
		t.Since = now
		if known && x.Endpoint == t.Endpoint && x.Local == t.Local {
			t.Since = x.Since
		}
	}
	if !known {
		x = &record{of: s, Sighting: Sighting{RealServer: s.name}}
		s.peers[t.Peer] = x
		news = true
	} else {
		news = x.gone != nil || x.Endpoint != t.Endpoint || x.Local != t.Local || t.Since.After(x.Since)
		if x.Endpoint != t.Endpoint {
			b.unindex(x)
			known = false
			if !x.from.IsValid() {
				x.from = x.Endpoint
			}
			if x.Before = x.from; x.from == t.Endpoint { // there and back, and nobody has noticed
				x.Before = netip.AddrPort{}
			}
		}
	}
	if x.gone != nil {
		s.gone.Remove(x.gone)
		x.gone, x.Gone = nil, time.Time{}
	}
	s.subnets += len(t.Subnets) - len(x.Subnets)
	x.Tunnel, x.Heard = t, now
	if !known {
		b.index(x)
	}
	return x, news
}

// lose notes that a tunnel is not established any more.
func (b *Book) lose(x *record, now time.Time) {
	if x.gone != nil {
		return
	}
	b.untell(x)
	s := x.of
	x.Gone, x.gone = now, s.gone.PushBack(x)
	if s.gone.Len() > agent.MaxReported {
		b.drop(s.gone.Front().Value.(*record))
	}
}

// forget drops what has been gone for long.
func (b *Book) forget(s *server, now time.Time) {
	for e := s.gone.Front(); e != nil && now.Sub(e.Value.(*record).Gone) > remember; e = s.gone.Front() {
		b.drop(e.Value.(*record))
	}
}

// drop forgets a tunnel that has ended.
func (b *Book) drop(x *record) {
	b.unindex(x)
	x.of.gone.Remove(x.gone)
	x.of.subnets -= len(x.Subnets)
	delete(x.of.peers, x.Peer)
}
