package probe

import (
	"fmt"
	"net"
	"net/netip"

	"tunneldirector/affinity"
	"tunneldirector/director/agent"
)

// An iface is what is known of an interface of ours.
type iface struct {
	name  string
	index int
	mac   net.HardwareAddr
	up    bool
	addrs []netip.Prefix
}

// source is our address towards dst: one on its segment, else any of its family, global before link-local.
func (i *iface) source(dst netip.Addr) (best netip.Addr) {
	score := 0
	for _, p := range i.addrs {
		a := p.Addr()
		if a.Is4() != dst.Is4() {
			continue
		}
		s := 1
		switch {
		case p.Contains(dst):
			s = 3
		case !a.IsLinkLocalUnicast():
			s = 2
		}
		if s > score {
			best, score = a, s
		}
	}
	return best
}

// A hop is the way to a real server's address: an interface and the neighbour to hand packets to, which is the address
// itself on the interface's own segment.
type hop struct {
	iface string
	via   netip.Addr
	err   error
}

// A view is what is known of the host.
type view struct {
	ifaces map[string]*iface
	hops   map[netip.Addr]hop
}

// plan is what is to be asked about a target.
func plan(t Target, v view) []*question {
	var qs []*question
	for _, a := range t.Addrs {
		h := v.hops[a]
		off := h.via != a
		q := &question{kind: askNeighbour, dst: h.via, hop: h.via, iface: h.iface, required: !off}
		v.prepare(q, h)
		if q.problem == "no address of its family on "+h.iface && a.Is4() {
			q.problem, q.src = "", netip.IPv4Unspecified() // an ARP probe, RFC 5227
		}
		if h.err != nil {
			q.dst, q.required, off = a, true, false
		}
		qs = append(qs, q)
		if !off {
			continue
		}
		e := &question{kind: askEcho, dst: a, hop: h.via, iface: h.iface, required: true}
		v.prepare(e, h)
		if t.Method == affinity.DR {
			e.problem = fmt.Sprintf("forwarding method dr needs it on one of our segments, and it is behind %v", h.via)
		}
		qs = append(qs, e)
	}
	for _, vip := range t.VIPs {
		if q := v.check(t, vip); t.Check.Proto != 0 && q != nil {
			qs = append(qs, q)
		}
	}
	for _, vip := range t.VIPs {
		q := &question{kind: askAgent, dst: vip, port: t.Agent, udp: &udpPort{}, word: &word{}}
		if t.Agent != 0 && t.Method != affinity.Masq && v.way(t, q) {
			q.probe = agent.AppendProbe(nil, agent.Nonce{}, t.Name)
			qs = append(qs, q)
		}
	}
	return qs
}

// check is the question to a VIP's port; nil if this real server's addresses cannot carry it.
func (v view) check(t Target, vip netip.Addr) *question {
	q := &question{dst: vip, port: t.Check.Port}
	switch {
	case t.Check.Proto == 6:
		q.kind, q.required = askTCP, true
	case t.Check.Port == 500 || t.Check.Port == 4500:
		q.kind = askIKE
	default:
		q.kind = askUDP
	}
	if q.kind != askTCP {
		q.udp = &udpPort{}
	}
	if !v.way(t, q) {
		return nil
	}
	return q
}

// way fills in how a question gets to its VIP through t; false: t has no way for this family, or we have no address to ask
// from.
func (v view) way(t Target, q *question) bool {
	for _, a := range t.Addrs {
		h := v.hops[a]
		if h.err != nil || t.Method == affinity.IPIP && a.Is4() != q.dst.Is4() {
			continue
		}
		q.hop, q.iface = h.via, h.iface
		v.prepare(q, h)
		if a.Is4() == q.dst.Is4() {
			break
		}
	}
	return q.iface != "" && q.src.IsValid()
}

// prepare fills in our source, or why there is none.
func (v view) prepare(q *question, h hop) {
	i := v.ifaces[h.iface]
	switch {
	case h.err != nil:
		q.problem = h.err.Error()
	case i == nil:
		q.problem = "no interface " + h.iface
	case !i.up:
		q.problem = "interface " + h.iface + " is down"
	}
	if i == nil {
		return
	}
	if q.src = i.source(q.dst); !q.src.IsValid() && q.problem == "" {
		q.problem = "no address of its family on " + h.iface
	}
}
