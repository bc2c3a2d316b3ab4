package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"

	"tunneldirector/affinity"
	"tunneldirector/cmd/console"
	loop "tunneldirector/director"
	"tunneldirector/director/api"
	"tunneldirector/director/blackbox"
	"tunneldirector/director/config"
	"tunneldirector/director/journal"
	"tunneldirector/director/plane"
	"tunneldirector/director/plane/frame"
)

// An ownBox is the black box of this daemon, in the names of its table. It makes an api.BlackBox.
type ownBox struct {
	*blackbox.Recorder
	table func() *affinity.Table // set before the recorder runs
}

// openBox opens the black box of a plane; nil: the plane shows no packets, or its directory cannot be had, which lacks says for an alarm: a
// director forwards without it, too.
func openBox(cfg config.Config, p plane.Plane, events *journal.Journal, log *slog.Logger) (b *ownBox, lacks []string) {
	sampler, ok := p.(plane.Sampler)
	if !ok {
		return nil, nil
	}
	b = &ownBox{}
	var err error
	b.Recorder, err = blackbox.Open(blackbox.Options{
		Dir: filepath.Join(cfg.DataDir, "blackbox"), MaxSize: int64(cfg.BlackBox.MaxSize), Director: cfg.Name, Version: console.Version(),
		Plane: sampler, Words: b.words, RealServer: func(i affinity.Index) string { return b.table().NameAt(i) }, Note: func(object, why string) { events.Note("blackbox", object, why) }, Log: log,
	})
	if err != nil {
		log.Error("the director runs without a black box", "error", err)
		return nil, []string{fmt.Sprintf("there is no black box: %v; give the disk room, or move the directory blackbox in data_dir away, and restart the director", err)}
	}
	return b, nil
}

// alarms tell that the black box sees nothing, or writes nothing.
func (b *ownBox) alarms() []string {
	if b == nil || b.Problem() == "" {
		return nil
	}
	return []string{"the black box: " + b.Problem()}
}

// A witness is a journal whose deaths of real servers the black box hears of.
type witness struct {
	*journal.Journal
	box *ownBox
}

// Record takes events that have happened.
func (w witness) Record(events []api.Event) {
	w.Journal.Record(events)
	for i := range events {
		if cause, dead := deathOf(&events[i]); dead {
			w.box.Trigger(blackbox.Trigger{Kind: "real-server", Object: events[i].Object, Why: "real server " + events[i].Object + " is dead: " + cause})
		}
	}
}

// deathOf is why a real server is dead, if an event is that, as this director acts on it.
func deathOf(e *api.Event) (cause string, dead bool) {
	if e.Kind == "provisional" {
		return e.Why, e.To == "dead"
	}
	cause, dead = strings.CutPrefix(e.Why, "dead: ")
	return cause, dead && e.Kind == "real-server"
}

// journalOf is the journal that the loop is told: the black box hears of deaths, if there is one.
func journalOf(events *journal.Journal, b *ownBox) loop.Journal {
	if b == nil {
		return events
	}
	return witness{events, b}
}

// words are what became of a packet and why, as a recording has it.
func (b *ownBox) words(s plane.Sample) string {
	p := b.seen(s)
	words := becameWords(&p)
	if h, ok := holder(b.table(), s); ok {
		words += ", tunnel " + h.Tunnel
	}
	return words
}

func serviceName(t *affinity.Table, num uint16) string {
	for _, s := range t.Services() {
		if s.Num == num {
			return s.Name
		}
	}
	return ""
}

func tenantName(t *affinity.Table, num uint16) string {
	for _, x := range t.Tenants() {
		if x.Num == num {
			return x.Name
		}
	}
	return ""
}

// holder is the tunnel that a packet towards a VIP is of.
func holder(t *affinity.Table, s plane.Sample) (h affinity.Holding, ok bool) {
	if s.Side != plane.TunnelSide {
		return h, false
	}
	p, err := frame.Parse(s.Head)
	if err != nil {
		return h, false
	}
	k := plane.EndpointKey{VIP: p.Dst, Addr: p.Src, Port: p.SrcPort}
	if p.Inner != nil { // an error is about what went to the endpoint
		k.Addr, k.Port = p.Inner.Dst, p.Inner.DstPort
	}
	if h, ok = t.AtEndpoint(k); !ok && k.Port != 0 {
		k.Port = 0
		h, ok = t.AtEndpoint(k)
	}
	return h, ok && !h.PortsOnly // which of the tunnels there is not known
}

// Packets shows packets that fit as they come.
func (b *ownBox) Packets(ctx context.Context, by string, w api.PacketFilter, f func(api.SeenPacket) error) error {
	err := b.Watch(ctx, by, plane.Watch{Src: w.Src, Dst: w.Dst, Proto: w.Proto, SrcPort: w.SrcPort, DstPort: w.DstPort}, func(s plane.Sample) error {
		return f(b.seen(s))
	})
	if taken := (blackbox.ErrWatched{}); errors.As(err, &taken) {
		return api.Conflict(err.Error())
	}
	return err
}

// seen tells of a sample in names.
func (b *ownBox) seen(s plane.Sample) api.SeenPacket {
	t := b.table()
	p := api.SeenPacket{At: s.At, Interface: s.Interface, Action: "forward", RealServer: t.NameAt(s.RealServer), Side: s.Side.String(),
		Service: serviceName(t, s.Service), Length: s.Length, Foretold: s.Foretold, Head: s.Head}
	switch {
	case s.Reason.Drops():
		p.Action, p.Reason = "drop", s.Reason.String()
	case s.Reason != plane.None:
		p.Action, p.Reason = "pass", s.Reason.String()
	}
	if s.Side == plane.SubnetSide {
		p.Tenant = tenantName(t, s.Tenant)
	}
	return p
}
