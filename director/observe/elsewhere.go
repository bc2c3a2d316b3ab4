package observe

import (
	"fmt"
	"net/netip"
	"slices"

	"tunneldirector/director/agent"
)

// sort leaves out of a report the tunnels that are at no VIP of the real server: what was told of them before has ended.
func (l *line) sort(r *agent.Report, o Options) {
	if o.VIPs == nil {
		return
	}
	vips, all := o.VIPs(r.RealServer), len(r.Up)
	if vips == nil {
		return
	}
	var example agent.Tunnel
	r.Up = slices.DeleteFunc(r.Up, func(t agent.Tunnel) bool {
		out := t.Local.IsValid() && !slices.Contains(vips, t.Local)
		if out {
			example = t
			r.Down = append(r.Down, t.Peer)
		}
		return out
	})
	if n := all - len(r.Up); n > 0 {
		if _, again := l.missed.LoadOrStore(r.RealServer, slices.Clone(vips)); !again {
			o.Log.Warn("tunnels are at no VIP of their real server, and left out", "host", l.host, "real_server", r.RealServer, "tunnels", n, "peer", example.Peer, "local", example.Local)
		}
	}
}

// recall ends a stream of which tunnels were left out at VIPs that have changed since: all is told again on the next one.
func (b *Book) recall(l *line, o Options) (err error) {
	l.missed.Range(func(rs, vips any) bool {
		if name := rs.(string); !same(vips.([]netip.Addr), o.VIPs(name)) {
			b.mu.Lock()
			defer b.mu.Unlock()
			if s := b.servers[name]; s != nil && s.line == l {
				s.told, s.seq = s.confirmed(), 0
			}
			err = fmt.Errorf("the VIPs of real server %s have changed: its tunnels are to be told again", name)
		}
		return err == nil
	})
	return err
}

// same tells whether two lists have the same VIPs.
func same(a, b []netip.Addr) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(x netip.Addr) bool { return !slices.Contains(b, x) })
}
