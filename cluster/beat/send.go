package beat

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"time"
)

// A target is where a peer takes heartbeats on a path.
type target struct {
	name string
	path int
	addr *net.UDPAddr
}

// send says the beat to all, every interval. It has a thread of its own, which sleeps in the kernel and is woken before
// others where the kernel lets it: a machine that is busy must not look dead. The thread ends with the goroutine.
func (b *Beater) send(ctx context.Context) error {
	how := "normal"
	if b.raise != nil {
		runtime.LockOSThread() // and never unlocked: nothing else is to run at that priority
		how = "real-time"
		if err := b.raise(); err != nil {
			how = fmt.Sprintf("normal: %v", err)
		}
	}
	b.o.Log.Info("heartbeats are sent", "interval", b.o.Interval, "scheduling", how)
	s := sealer{ring: b.o.Ring}
	for next := time.Now(); ; {
		b.sendAll(&s)
		if ctx.Err() != nil {
			return nil // the loop's last word has been said
		}
		next = next.Add(b.o.Interval)
		if late := time.Until(next); late < -b.o.DeadAfter/2 {
			b.faults.Add("late", fmt.Sprintf("heartbeats were sent %v late: this machine is short of processor time, and may look dead", -late.Truncate(time.Millisecond)), 0)
		}
		if now := time.Now(); next.Before(now) {
			next = now.Add(b.o.Interval)
		}
		b.sleep(time.Until(next))
	}
}

// sendAll seals one beat and sends it to everybody on every path. Before the loop's first word there is nothing to send: a beat
// that says nothing yet would be taken for that of a director with an empty table.
func (b *Beater) sendAll(s *sealer) {
	if b.said.Load().at.IsZero() {
		return
	}
	b.seq.Add(1)
	plain, err := encode(b.own())
	var datagram []byte
	if err == nil {
		datagram, err = s.seal(plain)
	}
	if err == nil && len(datagram) > MaxSize {
		err = fmt.Errorf("it has %d bytes", len(datagram))
	}
	if err != nil {
		b.faults.Add("own", fmt.Sprintf("heartbeats cannot be sent: %v", err), 0)
		return
	}
	for _, c := range b.o.Conns { // a path that is stuck holds the others up no longer than that
		c.SetWriteDeadline(time.Now().Add(b.o.Interval / 10))
	}
	for _, t := range *b.targets.Load() {
		if _, err := b.o.Conns[t.path].WriteTo(datagram, t.addr); err != nil {
			b.faults.Add(fmt.Sprint("send ", t.path, t.name), fmt.Sprintf("send heartbeats to %s on path %d: %v", t.name, t.path+1, err), time.Second)
		}
	}
}
