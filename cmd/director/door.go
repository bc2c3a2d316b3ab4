package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"tunneldirector/cluster"
)

// Anybody may connect to the port of the streams. Those that have not proved who they are yet are few, and not for long.
const (
	shakeWithin  = 5 * time.Second
	maxShaking   = 64 // connections at once
	maxShakingOf = 8  // of them from one address
	sayAgain     = time.Minute
)

// A door counts who has not proved yet who it is.
type door struct {
	mu      sync.Mutex // guards what is below
	shaking int
	from    map[netip.Addr]int
	said    map[string]time.Time
}

func newDoor() *door { return &door{from: map[netip.Addr]int{}, said: map[string]time.Time{}} }

// enter tells whether one more from an address may try; then leave has to follow.
func (d *door) enter(from netip.Addr) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.shaking >= maxShaking || d.from[from] >= maxShakingOf {
		return false
	}
	d.shaking++
	d.from[from]++
	return true
}

func (d *door) leave(from netip.Addr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.shaking--
	if d.from[from]--; d.from[from] == 0 {
		delete(d.from, from)
	}
}

// says tells whether something is to be said again at a time: once a minute at most.
func (d *door) says(what string, now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for was, at := range d.said {
		if now.Sub(at) >= sayAgain {
			delete(d.said, was)
		}
	}
	if _, lately := d.said[what]; lately {
		return false
	}
	d.said[what] = now
	return true
}

// addressOf is where a connection comes from: of IPv6 the /64, all of whose addresses one machine may have.
func addressOf(conn net.Conn) netip.Addr {
	a, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	at := a.AddrPort().Addr().Unmap()
	if at.Is6() {
		at = netip.PrefixFrom(at.WithZone(""), 64).Masked().Addr()
	}
	return at
}

// isMember tells whether gossip knows a director, whose certificate may be that of one that was taken out of the cluster.
func isMember(members []cluster.Member, name string) bool {
	return slices.ContainsFunc(members, func(m cluster.Member) bool { return m.Name == name })
}

// answerLiving answers another director's daemon if its heartbeats are heard.
func (j *joined) answerLiving(ctx context.Context, from string, question []byte) ([]byte, error) {
	if p, known := j.beater.View().Peer(from); !known || !p.Alive {
		return nil, fmt.Errorf("director %s asks, and its heartbeats are not heard here", from)
	}
	return j.answer(ctx, from, question)
}
