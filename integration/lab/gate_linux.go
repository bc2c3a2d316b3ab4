package lab

import "sync/atomic"

// A gate is what a real server's WireGuard reads and sends through. The zero value is open, and so is nil.
type gate struct{ waiting atomic.Pointer[chan struct{}] } // nil: open

// pass waits until the gate is open.
func (g *gate) pass() {
	if g == nil {
		return
	}
	if c := g.waiting.Load(); c != nil {
		<-*c
	}
}

func (g *gate) shut() {
	c := make(chan struct{})
	g.waiting.CompareAndSwap(nil, &c)
}

func (g *gate) open() {
	if c := g.waiting.Swap(nil); c != nil {
		close(*c)
	}
}
