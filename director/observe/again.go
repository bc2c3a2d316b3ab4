package observe

import "tunneldirector/director/agent"

// Cancel takes back the releases of tunnels at a real server that are not done: the tunnels are wanted there again.
func (b *Book) Cancel(realServer string, tunnels []agent.Inherited) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s, ok := b.servers[realServer]
	if !ok {
		return
	}
	var undo []agent.Inherited
	for _, t := range tunnels {
		key := errandKey{agent.OrderRelease, t.ID}
		if e, ok := s.orders.of[key]; ok && !e.Final() {
			undo = append(undo, e.Tunnel)
			s.orders.drop(key)
		}
	}
	if s.line != nil && s.line.open && len(undo) > 0 {
		s.line.orders(realServer, agent.OrderForget, undo)
	}
}

// Again makes news of all tunnels that are established at a real server ("": at any), since more is wanted of them now.
func (b *Book) Again(realServer string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for name, s := range b.servers {
		if realServer != "" && name != realServer {
			continue
		}
		for _, x := range s.peers {
			if x.gone == nil {
				b.tell(x)
			}
		}
	}
	b.poke()
}
