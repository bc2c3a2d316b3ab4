package observe

import (
	"container/list"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"tunneldirector/director/agent"
)

// A Book is what agents say. Its methods may be called from any goroutine; none blocks for long.
type Book struct {
	now func() time.Time

	changed chan struct{} // of one: something was noted

	mu      sync.RWMutex // guards what follows
	servers map[string]*server
	closed  map[string]bool          // by real server: whether it is to take no new tunnels, once somebody has said so
	verdict map[string]agent.Verdict // by real server: what its agent is told of it, for people
	byAddr  map[netip.Addr][]*record // by outer address, in order
	news    list.List                // of *record
	faults  map[*faultWait]struct{}  // who waits
	swept   time.Time
}

// A server is a real server that an agent speaks for, or spoke for.
type server struct {
	name     string
	instance string // of the agent that reported last
	hello    agent.Server
	line     *line // nil: silent
	host     string
	since    time.Time // line came or went
	status   agent.Status
	statusAt time.Time
	orders   orders

	seq     uint64    // up to where its reports are known; 0: this instance has not told all yet
	told    time.Time // when an agent that had told all spoke last; line knows better while it speaks
	filling uint64    // the Seq of a whole report that is not complete; 0: none
	round   uint64    // of whole reports
	filled  int       // peers of this round
	peers   map[string]*record
	gone    list.List // of *record: peers that ended, the first of them in front
	subnets int       // of all peers
}

// established counts the peers that have not ended.
func (s *server) established() int { return len(s.peers) - s.gone.Len() }

// confirmed is when what is known of the tunnels was still true by the agent's word.
func (s *server) confirmed() time.Time {
	if s.line != nil && s.seq > 0 {
		return s.line.heard
	}
	return s.told
}

// NewBook is an empty one. A nil now is time.Now.
func NewBook(now func() time.Time) *Book {
	if now == nil {
		now = time.Now
	}
	return &Book{now: now, changed: make(chan struct{}, 1), servers: map[string]*server{}, closed: map[string]bool{}, verdict: map[string]agent.Verdict{}, byAddr: map[netip.Addr][]*record{},
		faults: map[*faultWait]struct{}{}}
}

// Changed gets a value after something was noted that a director may want to act on.
func (b *Book) Changed() <-chan struct{} { return b.changed }

func (b *Book) poke() {
	select {
	case b.changed <- struct{}{}:
	default:
	}
}

// newsAtOnce is how many are taken in one turn, so that a director has time for other things in between.
const newsAtOnce = 1000

// News are tunnels that were established, perhaps anew, or have changed their addresses, since they were news last; and those
// that an agent which has come knew before. They are taken in turns: while there are more, Changed says so. None is left out.
func (b *Book) News() (news []Sighting) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.news.Len() > 0 && len(news) < newsAtOnce {
		x := b.news.Front().Value.(*record)
		b.untell(x)
		x.from = netip.AddrPort{}
		news = append(news, x.sighting())
	}
	if b.news.Len() > 0 {
		b.poke()
	}
	return news
}

// tell makes a tunnel news.
func (b *Book) tell(x *record) {
	if x.news == nil {
		x.news = b.news.PushBack(x)
	}
}

func (b *Book) untell(x *record) {
	if x.news != nil {
		b.news.Remove(x.news)
		x.news = nil
	}
}

// An Agent is how an agent and its terminator are.
type Agent struct {
	RealServer string
	Host       string
	Connected  bool
	Since      time.Time // of Connected being so
	Terminator string
	Version    string // of the agent's program; "": it is silent
	ProbePort  uint16
	Status     agent.Status // the last one
	Heard      time.Time    // when; zero: never
	Tunnels    int          // established, as far as told
	Whole      bool         // it has told of all of them
	Orders     OrderCount
}

// Agent tells of the agent that speaks for a real server; false if none ever did.
func (b *Book) Agent(realServer string) (Agent, bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	s, ok := b.servers[realServer]
	if !ok {
		return Agent{}, false
	}
	return s.agent(), true
}

func (s *server) agent() Agent {
	version := ""
	if s.line != nil {
		version = s.line.version
	}
	return Agent{RealServer: s.name, Version: version, Host: s.host, Connected: s.line != nil, Since: s.since, Terminator: s.hello.Terminator, ProbePort: s.hello.ProbePort,
		Status: s.status, Heard: s.statusAt, Tunnels: s.established(), Whole: s.seq > 0, Orders: s.orders.counts()}
}

// Heard is when the agent that speaks for a real server last said how that is; zero: none speaks for it, or it has not said so since
// it came.
func (b *Book) Heard(realServer string) time.Time {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if s, ok := b.servers[realServer]; ok && s.line != nil && !s.statusAt.Before(s.since) {
		return s.statusAt
	}
	return time.Time{}
}

// Flooded tells whether the agent that speaks for a real server said, when it was Heard, that its probes are flooded.
func (b *Book) Flooded(realServer string) bool {
	b.mu.RLock()
	defer b.mu.RUnlock()
	s, ok := b.servers[realServer]
	return ok && s.line != nil && !s.statusAt.Before(s.since) && s.status.Flooded
}

// Agents are all that are known, by real server.
func (b *Book) Agents() []Agent {
	b.mu.RLock()
	defer b.mu.RUnlock()
	var out []Agent
	for _, name := range slices.Sorted(maps.Keys(b.servers)) {
		out = append(out, b.servers[name].agent())
	}
	return out
}

// Forget drops all that is known, and wanted, of a real server that no agent speaks for now.
func (b *Book) Forget(realServer string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s, ok := b.servers[realServer]
	if ok && s.line != nil {
		return
	}
	delete(b.closed, realServer)
	delete(b.verdict, realServer)
	if !ok {
		return
	}
	for _, x := range s.peers {
		b.unindex(x)
		b.untell(x)
	}
	delete(b.servers, realServer)
}

// sweep forgets what is old, now and then. It comes with what agents say and what they are ordered: nothing grows without.
func (b *Book) sweep(now time.Time) {
	if now.Sub(b.swept) < time.Minute {
		return
	}
	b.swept = now
	for _, s := range b.servers {
		b.forget(s, now)
		s.orders.settle(now)
	}
}

// note takes a Status in.
func (b *Book) note(l *line, st *agent.Status) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.servers[st.RealServer]
	if s == nil || s.line != l {
		return fmt.Errorf("status of real server %q: this agent does not speak for it", st.RealServer)
	}
	was, now := s.status, b.now()
	if closed, said := b.closed[s.name]; s.statusAt.Before(s.since) && st.Closed && said && !closed {
		s.close(false) // it was opened again while the agent, or this director, was away
	}
	s.status, s.statusAt = *st, now
	if st.FoundAsBefore {
		s.status.Found, s.status.FoundAsBefore = was.Found, false
	}
	b.sweep(now)
	if was.Health != st.Health || was.Load.Full != st.Load.Full || was.Closed != st.Closed {
		b.poke()
	}
	return nil
}
