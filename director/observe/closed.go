package observe

import "tunneldirector/director/agent"

// SetClosed says whether a real server is to take no new tunnels. Its agent is told when that changes, and again when it comes, if
// the real server is to be closed or says that it is. It is idempotent; nothing is sent for a real server that it was never called for.
func (b *Book) SetClosed(realServer string, closed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	was, said := b.closed[realServer]
	if said && was == closed {
		return
	}
	b.closed[realServer] = closed
	s, ok := b.servers[realServer]
	if ok && s.line != nil && s.line.open && (said || closed || s.status.Closed) {
		s.close(closed)
	}
}

// close orders the agent that speaks for a server to take no new tunnels, or to take them again.
func (s *server) close(closed bool) {
	kind := agent.OrderAccept
	if closed {
		kind = agent.OrderClose
	}
	s.line.put(agent.Message{Order: &agent.Order{RealServer: s.name, Kind: kind}})
}
