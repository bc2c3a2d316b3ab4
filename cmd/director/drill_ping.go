package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	probing "github.com/prometheus-community/pro-bing"

	"tunneldirector/director/drill"
)

// A pinging is one tunnel's packets: ICMP echo from this machine to an address behind the tunnel. It makes a drill.Probing.
type pinging struct {
	cancel context.CancelFunc
	done   chan error

	mu   sync.Mutex // guards what follows
	sent []drill.Packet
	of   map[int]int // the last packet of a sequence number
	last time.Time   // of an answer
}

// ping begins at once. Without the rights for raw sockets it takes those that the kernel has for everybody.
func ping(ctx context.Context, to netip.Addr, every time.Duration) *pinging {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx)) // until Stop
	g := &pinging{cancel: cancel, done: make(chan error, 1), of: map[int]int{}, last: time.Now()}
	p := probing.New(to.String())
	p.SetIPAddr(&net.IPAddr{IP: to.AsSlice(), Zone: to.Zone()})
	p.SetPrivileged(os.Geteuid() == 0)
	p.SetLogger(probing.NoopLogger{})
	p.Interval, p.RecordRtts, p.RecordTTLs = every, false, false
	p.OnSend = func(x *probing.Packet) { g.leaves(x.Seq) }
	p.OnSendError = func(x *probing.Packet, _ error) { g.leaves(x.Seq) } // no route is a loss like another
	p.OnRecv = func(x *probing.Packet) { g.returns(x.Seq) }
	go func() { g.done <- p.RunWithContext(ctx) }()
	return g
}

func (g *pinging) leaves(seq int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.of[seq] = len(g.sent)
	g.sent = append(g.sent, drill.Packet{Sent: time.Now()})
}

func (g *pinging) returns(seq int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if i, known := g.of[seq]; known {
		g.last = time.Now()
		g.sent[i].Received = g.last
	}
}

// Silent is how long ago the last answer came.
func (g *pinging) Silent() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return time.Since(g.last)
}

// answered tells whether any packet came back.
func (g *pinging) answered() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range g.sent {
		if !p.Received.IsZero() {
			return true
		}
	}
	return false
}

// Stop ends it, and returns all packets.
func (g *pinging) Stop() ([]drill.Packet, error) {
	g.cancel()
	err := <-g.done
	g.mu.Lock()
	defer g.mu.Unlock()
	if err != nil && len(g.sent) == 0 {
		return nil, fmt.Errorf("send ICMP echo: %w; as root, or with net.ipv4.ping_group_range that has this user's group", err)
	}
	return g.sent, nil
}
