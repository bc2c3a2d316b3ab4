package probe

import (
	"net/netip"
	"time"
)

// A limiterKey is by what ports share one limit of port unreachables, as far as can be seen from here: those of one host
// have a MAC in common, and the limit is per address asked from. Behind a router more are taken together than need be.
type limiterKey struct {
	iface string
	mac   string
	src   netip.Addr
}

// A limiter is the share of a host's port unreachables that one address of ours gets, and the ports that it is for.
type limiter struct {
	ports  []*udpPort
	closed time.Time // last port unreachable
}

// step draws conclusions from silence. Ports at rest are asked again when nobody asks any more, or when silence has proved
// all that it was to prove.
func (m *limiter) step(now time.Time, interval time.Duration) {
	asking, proving := false, false
	for _, p := range m.ports {
		asking = asking || !p.resting
		since := p.silence(now, interval)
		if p.belief == heard || since.IsZero() {
			continue
		}
		if now.Sub(since) < max(p.belief.needs(), staleAfter*interval) {
			proving = true
			continue
		}
		p.belief, p.opened = heard, now
	}
	if asking && (proving || now.Sub(m.closed) < max(firstSilence, staleAfter*interval)) {
		return
	}
	for _, p := range m.ports {
		if p.resting && !now.Before(p.until) {
			p.resting = false
		}
	}
}

// group puts the UDP ports under their limiters.
func (l *loop) group() {
	if !l.regroup {
		return
	}
	l.regroup = false
	old := l.limiters
	l.limiters = map[limiterKey]*limiter{}
	for _, t := range l.targets {
		for _, q := range t.questions {
			mac := l.macs[neighbourKey{q.iface, q.hop}]
			if q.udp == nil || mac == nil {
				continue
			}
			key := limiterKey{q.iface, string(mac), q.src}
			m := l.limiters[key]
			if m == nil {
				m = &limiter{}
				if was := old[key]; was != nil {
					m.closed = was.closed
				}
				l.limiters[key] = m
			}
			q.udp.limiter = m
			m.ports = append(m.ports, q.udp)
		}
	}
}
