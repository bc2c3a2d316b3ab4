package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"tunneldirector/cmd/console"
	"tunneldirector/director/api"
)

// A liveTrace waits for packets at a director, and has each explained.
type liveTrace struct {
	t        *talk
	q        api.PacketQuery
	director string // that is asked
	packets  int
}

// A livePacket is one of them, as `trace --live` prints it with --json.
type livePacket struct {
	Packet       *api.SeenPacket   `json:"packet"`
	Explanation  *api.Explanation  `json:"explanation,omitempty"`
	Explanations *api.Explanations `json:"explanations,omitempty"` // with --all
	Unexplained  string            `json:"unexplained,omitempty"`  // why it is not
	Differs      string            `json:"differs,omitempty"`      // what was done from what the lookup says now
}

// traceLive is trace --live.
func traceLive(ctx context.Context, t *talk) error {
	l := &liveTrace{t: t, q: api.PacketQuery{Proto: t.String("proto"), Count: t.Int("count"), For: t.Duration("for")}}
	for _, name := range []string{"pcap", "packet", "came-from", "fragment", "tenant"} {
		if t.IsSet(name) {
			return console.Usage("--live and --%s: the packets that come say that", name)
		}
	}
	if l.q.Count < 1 || l.q.Count > api.MaxPackets {
		return console.Usage("--count %d: is not between 1 and %s", l.q.Count, console.Number(api.MaxPackets))
	}
	if l.q.For < time.Millisecond || l.q.For > api.MaxPacketsFor {
		return console.Usage("--for %s: is not between 1ms and %s", l.q.For, api.MaxPacketsFor)
	}
	var err error
	if l.q.From, l.q.FromPort, err = t.end("from"); err != nil {
		return err
	}
	if l.q.To, l.q.ToPort, err = t.end("to"); err != nil {
		return err
	}
	if err := t.reach(ctx); err != nil {
		return err
	}
	return l.run(ctx)
}

func (l *liveTrace) run(ctx context.Context) error {
	end := ""
	for line, err := range l.t.client.Packets(ctx, l.q) {
		switch {
		case ctx.Err() != nil && l.packets > 0:
			return nil // Ctrl-C is how it ends
		case err != nil:
			return withoutBlackBox(err)
		case line.Packet != nil:
			if err := l.packet(ctx, line.Packet); err != nil {
				return err
			}
		case line.Page != nil:
			if l.director == "" {
				l.director = line.Page.Director
				l.t.note("waiting for %s, up to %s; Ctrl-C ends", l.what(), span(l.q.For))
			}
			end = line.Page.End
		}
	}
	switch {
	case end == api.PacketsStopping:
		return console.Coded(console.ExitFailed, fmt.Errorf("director %s stops; %s came before that", l.director, console.Some(l.packets, "packet")))
	case l.packets == 0:
		return console.Coded(console.ExitFailed, errors.New(l.none(ctx)))
	case l.packets < l.q.Count:
		l.t.note("%s came within %s, not %s", console.Some(l.packets, "packet"), span(l.q.For), console.Number(l.q.Count))
	}
	return nil
}

// span is a duration without units that are 0: 30s, 10m, 1h30m.
func span(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// what are the packets that are waited for, in words.
func (l *liveTrace) what() string {
	s := "packets"
	if l.q.Proto != "" {
		s = l.q.Proto + " packets"
	}
	return s + " from " + whom(l.q.From, l.q.FromPort) + " to " + whom(l.q.To, l.q.ToPort)
}

func whom(addr string, port uint16) string {
	switch {
	case strings.Contains(addr, "/") && port != 0:
		return fmt.Sprintf("%s (port %d)", addr, port)
	case addr != "":
		return endWords(addr, port)
	case port != 0:
		return fmt.Sprintf("anybody's port %d", port)
	}
	return "anybody"
}

// none says that nothing came, and where to look.
func (l *liveTrace) none(ctx context.Context) string {
	s := fmt.Sprintf("no %s came in at director %s within %s.\nDoes the router send them to this director? director cluster status tells who holds the address; ask that one, with --server.", l.what(), l.director, span(l.q.For))
	ctx, cancel := l.t.limited(ctx)
	defer cancel()
	st, err := l.t.client.Status(ctx)
	if err != nil {
		return s // it is said already that nothing came
	}
	s += "\nDo they come in by an interface of the director, that has the role for them? Its data plane is " + st.Plane.Kind + after(": ", strings.Join(st.Plane.Detail, "; ")) + "."
	return s
}

// packet tells of one, and explains it.
func (l *liveTrace) packet(ctx context.Context, seen *api.SeenPacket) error {
	l.packets++
	out := livePacket{Packet: seen}
	if err := l.explain(ctx, &out); err != nil {
		return err
	}
	return l.t.Show(out, func(p *console.Page) {
		if l.packets > 1 {
			p.Line("")
		}
		livePage(p, &out)
	})
}

// explain asks what happens to such a packet now.
func (l *liveTrace) explain(ctx context.Context, out *livePacket) error {
	q, err := questionOf(gopacket.NewPacket(out.Packet.Head, layers.LinkTypeEthernet, gopacket.Lazy))
	if err != nil {
		out.Unexplained = err.Error()
		return nil
	}
	q.Tenant = out.Packet.Tenant
	ctx, cancel := l.t.limited(ctx)
	defer cancel()
	if !l.t.Bool("all") {
		e, err := l.t.client.Lookup(ctx, q)
		out.Explanation, out.Differs = &e, differs(out.Packet, &e)
		return l.refused(out, err)
	}
	all, err := l.t.client.LookupAll(ctx, q)
	out.Explanations = &all
	for i := range all.Explanations {
		if x := &all.Explanations[i]; x.Director == l.director {
			out.Differs = differs(out.Packet, &x.Explanation)
		}
	}
	return l.refused(out, err)
}

// refused notes that a packet cannot be looked up, as one that is malformed; what else is wrong ends the command.
func (l *liveTrace) refused(out *livePacket, err error) error {
	var p *api.Problem
	if errors.As(err, &p) && p.Status < 500 {
		out.Explanation, out.Explanations, out.Differs, out.Unexplained = nil, nil, "", p.Error()
		return nil
	}
	return err
}

// differs says how what was done with a packet is not what the lookup says now; "" if it is.
func differs(seen *api.SeenPacket, e *api.Explanation) string {
	same := seen.Action == e.Action
	if seen.Action == "forward" {
		same = same && seen.RealServer == e.RealServer
	} else {
		same = same && seen.Reason == e.Reason
	}
	if same {
		return ""
	}
	done := becameForwarded + seen.RealServer
	switch seen.Action {
	case "drop":
		done = becameDropped + seen.Reason
	case "pass":
		done = becamePassed + seen.Reason
	}
	did, was := "What was done with it is", "it was"
	if seen.Foretold {
		did, was = "What the data plane said as it came is", "it said"
	}
	return fmt.Sprintf(did+" not what the lookup says now: "+was+" %s, and now it would be %s. Either the table or a real server has changed in between, "+
		"or it is for something that the lookup does not ask about: its size, its TTL, the interface, what an ICMP error is about.", done, verdictWords(e))
}

func livePage(p *console.Page, x *livePacket) {
	s := x.Packet
	p.Line("%s", harmless(packetLine(s.At, s.Interface, seenEnds(s), s.Length)))
	if s.Foretold {
		p.Line("this data plane does not tell what it did with it; by its table: %s\n", becameWords(s))
	} else {
		p.Line("it was %s\n", becameWords(s))
	}
	switch {
	case x.Unexplained != "":
		p.Line("There is no more to look up: %s.", x.Unexplained)
	case x.Explanations != nil:
		traceAllPage(p, x.Explanations)
	default:
		tracePage(p, x.Explanation)
	}
	if x.Differs != "" {
		p.Line("\n%s", x.Differs)
	}
}
