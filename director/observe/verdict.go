package observe

import "tunneldirector/director/agent"

// SetVerdict says what this director makes of a real server. Its agent is told when that changes, and when it comes. It is idempotent.
func (b *Book) SetVerdict(v agent.Verdict) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if was, said := b.verdict[v.RealServer]; said && was == v {
		return
	}
	b.verdict[v.RealServer] = v
	if s, ok := b.servers[v.RealServer]; ok && s.line != nil && s.line.open {
		s.line.put(agent.Message{Verdict: &v})
	}
}
