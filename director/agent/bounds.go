package agent

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"
)

// Check says what of a tunnel breaks the bounds, which would break the stream. An agent leaves such a tunnel out, and says so.
func (t *Tunnel) Check() error {
	switch {
	case t.Peer == "" || !text(t.Peer):
		return fmt.Errorf("a peer's name of %d bytes: 1 to %d, of valid UTF-8", len(t.Peer), MaxText)
	case len(t.Subnets) > MaxSubnets:
		return fmt.Errorf("peer %q: %d subnets: at most %d", t.Peer, len(t.Subnets), MaxSubnets)
	case !t.Endpoint.Addr().IsValid():
		return fmt.Errorf("peer %q has no endpoint", t.Peer)
	case !plain(t.Endpoint.Addr()) || !plain(t.Local):
		return fmt.Errorf("peer %q: endpoint %v at %v: addresses without a zone, IPv4 as IPv4", t.Peer, t.Endpoint, t.Local)
	case !dated(t.Since) || !dated(t.Last):
		return fmt.Errorf("peer %q: a time that is none", t.Peer)
	}
	return subnets(t.Peer, t.Subnets)
}

func subnets(of string, list []netip.Prefix) error {
	for _, p := range list {
		if !p.IsValid() || !plain(p.Addr()) {
			return fmt.Errorf("peer %q: subnet %v is none", of, p)
		}
	}
	return nil
}

// Text is s as a message may carry it: cut, and without what is no UTF-8. It is for words, not for names.
func Text(s string) string {
	return strings.ToValidUTF8(s[:min(len(s), MaxText)], "")
}

// Time is t as a message may carry it: zero if its year is none.
func Time(t time.Time) time.Time {
	if !dated(t) {
		return time.Time{}
	}
	return t
}

// text tells whether s is short enough, and can be shown.
func text(s string) bool { return len(s) <= MaxText && utf8.ValidString(s) }

// plain tells whether an address is written the one way it is compared; an invalid one, which says "none", is.
func plain(a netip.Addr) bool { return !a.Is4In6() && a.Zone() == "" }

// dated tells whether a time can be written in RFC 3339, as the API writes it.
func dated(t time.Time) bool { y := t.UTC().Year(); return y >= 1 && y <= 9999 }

// check holds a message to the bounds.
func (m *Message) check() error {
	fields := 0
	for _, there := range []bool{m.Hello != nil, m.Welcome != nil, m.Report != nil, m.Known != nil, m.Status != nil, m.Order != nil, m.Progress != nil, m.Refused != nil, m.Verdict != nil} {
		if there {
			fields++
		}
	}
	switch {
	case fields > 1:
		return fmt.Errorf("a message of %d kinds at once", fields)
	case m.Hello != nil:
		return m.Hello.check()
	case m.Welcome != nil:
		return m.Welcome.check()
	case m.Report != nil:
		return m.Report.check()
	case m.Known != nil && !text(m.Known.RealServer):
		return errors.New("an acknowledgement out of its bounds")
	case m.Status != nil:
		return m.Status.check()
	case m.Order != nil:
		return m.Order.check()
	case m.Progress != nil:
		return m.Progress.check()
	case m.Refused != nil && !text(m.Refused.Why):
		return errors.New("a refusal out of its bounds")
	case m.Verdict != nil:
		return m.Verdict.check()
	}
	return nil
}

func (h *Hello) check() error {
	if len(h.RealServers) > MaxServers {
		return fmt.Errorf("hello for %d real servers: at most %d", len(h.RealServers), MaxServers)
	}
	if !text(h.Version) || h.Instance == "" || !text(h.Instance) {
		return errors.New("hello: version or instance out of its bounds")
	}
	for _, s := range h.RealServers {
		if s.Name == "" || !text(s.Name) || !text(s.Terminator) || !text(s.Method) || len(s.VIPs) > maxVIPs {
			return fmt.Errorf("hello: real server %.40q out of its bounds", s.Name)
		}
	}
	return nil
}

func (w *Welcome) check() error {
	ok := text(w.Director) && len(w.Known) <= MaxServers && len(w.Refused) <= MaxServers && len(w.Warnings) <= MaxServers
	for _, s := range w.Warnings {
		ok = ok && text(s)
	}
	for rs, why := range w.Refused {
		ok = ok && text(rs) && text(why)
	}
	for rs := range w.Known {
		ok = ok && text(rs)
	}
	if !ok {
		return errors.New("welcome out of its bounds")
	}
	return nil
}

func (r *Report) check() error {
	if len(r.Up) > MaxTunnels || len(r.Down) > MaxTunnels || !text(r.RealServer) {
		return fmt.Errorf("report of %d tunnels: at most %d", max(len(r.Up), len(r.Down)), MaxTunnels)
	}
	for i := range r.Up {
		if err := r.Up[i].Check(); err != nil {
			return fmt.Errorf("report: %w", err)
		}
	}
	for _, peer := range r.Down {
		if !text(peer) {
			return fmt.Errorf("report: a peer's name of %d bytes: at most %d", len(peer), MaxText)
		}
	}
	return nil
}

func (s *Status) check() error {
	ok := text(s.RealServer) && text(s.Cause) && s.Health <= HealthDead && dated(s.Since) && len(s.Load.Parts) <= maxParts
	ok = ok && len(s.Found) <= MaxFound && (len(s.Found) == 0 || !s.FoundAsBefore)
	for _, p := range s.Load.Parts {
		ok = ok && text(p.Name) && text(p.Says)
	}
	for _, f := range s.Found {
		ok = ok && text(f.ID) && text(f.What) && text(f.Causes) && text(f.Remedy) && text(f.Severity)
	}
	if !ok {
		return errors.New("status out of its bounds")
	}
	return nil
}

func (v *Verdict) check() error {
	if !text(v.RealServer) || !text(v.State) || !text(v.Why) || !text(v.Shut) || !dated(v.Since) || !dated(v.Drained) {
		return errors.New("verdict out of its bounds")
	}
	return nil
}

func (o *Order) check() error {
	if len(o.Tunnels) > MaxTunnels || !text(o.RealServer) {
		return fmt.Errorf("order for %d tunnels: at most %d", len(o.Tunnels), MaxTunnels)
	}
	for i := range o.Tunnels {
		t := &o.Tunnels[i]
		if !text(t.ID) || !text(t.Peer) || len(t.Subnets) > MaxSubnets {
			return fmt.Errorf("order: tunnel %.40q out of its bounds", t.ID)
		}
		if err := subnets(t.Peer, t.Subnets); err != nil {
			return fmt.Errorf("order: %w", err)
		}
	}
	about := o.Kind == OrderInject || o.Kind == OrderUndo
	switch {
	case about != (o.Fault != nil):
		return fmt.Errorf("order to %s: a fault belongs to those to inject and to undo alone", o.Kind)
	case about:
		return o.Fault.check()
	}
	return nil
}

func (f *FaultOrder) check() error {
	odd := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-'
	}
	switch {
	case f.ID == "" || len(f.ID) > MaxFaultID || strings.ContainsFunc(f.ID, odd):
		return fmt.Errorf("order about fault %.80q: an ID has 1 to %d letters, digits and dashes", f.ID, MaxFaultID)
	case !text(f.Kind) || time.Duration(f.Millis)*time.Millisecond > MaxFault:
		return fmt.Errorf("order about fault %s out of its bounds", f.ID)
	}
	return nil
}

func (p *Progress) check() error {
	if len(p.Tunnels) > MaxTunnels || !text(p.RealServer) {
		return fmt.Errorf("progress of %d tunnels: at most %d", len(p.Tunnels), MaxTunnels)
	}
	for _, s := range p.Tunnels {
		if !text(s.ID) || !text(s.Why) {
			return fmt.Errorf("progress: tunnel %.40q out of its bounds", s.ID)
		}
	}
	return nil
}
