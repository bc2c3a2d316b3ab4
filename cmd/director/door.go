package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"tunneldirector/cluster"
	"tunneldirector/director/crowd"
)

// Anybody may connect to the port of the streams. Those that have not proved who they are yet are few, and not for long.
const (
	shakeWithin  = 5 * time.Second
	maxShaking   = 64 // connections at once
	maxShakingOf = 8  // of them from one address, of IPv6 from one /64
	sayAgain     = time.Minute
)

// A door lets those in that have not proved yet who they are, and keeps what is said of them short.
type door struct {
	crowd.Room
	mu   sync.Mutex // guards what is below
	said map[string]time.Time
}

func newDoor() *door {
	return &door{Room: crowd.Room{All: maxShaking, Each: maxShakingOf}, said: map[string]time.Time{}}
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
