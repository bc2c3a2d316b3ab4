package beat

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"tunneldirector/cluster"
)

// grace is how long a reader waits in vain before it says that nothing is left in its socket.
const grace = 5 * time.Millisecond

// An event is what a reader tells: a beat, or that its socket was empty.
type event struct {
	path    int
	from    netip.AddrPort
	beat    cluster.Beat
	wall    time.Time // when it was read, by the wall clock
	drained bool
}

// A reader is the one that reads a path's socket.
type reader struct {
	b      *Beater
	path   int
	conn   net.PacketConn
	sealer sealer
	events chan<- event
	buf    [2048]byte
}

// run reads until the socket is closed, which is an error unless ctx is done.
func (r *reader) run(ctx context.Context) error {
	for {
		err := r.read(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded): // it is to drain
			if err := r.drain(ctx); err != nil && ctx.Err() == nil {
				return err
			}
			r.tell(ctx, event{path: r.path, drained: true})
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("read heartbeats on path %d: %w", r.path+1, err)
		default:
			r.b.faults.Add(fmt.Sprint("read ", r.path), fmt.Sprintf("read heartbeats on path %d: %v", r.path+1, err), 0)
			wait(ctx, r.b.o.Interval)
		}
	}
}

// drain reads what has come already. A reader that was not awake while it waited has not waited in vain.
func (r *reader) drain(ctx context.Context) error {
	for range 4096 {
		asked := time.Now()
		if err := r.conn.SetReadDeadline(asked.Add(grace)); err != nil {
			return fmt.Errorf("drain heartbeats on path %d: %w", r.path+1, err)
		}
		if err := r.read(ctx); err != nil && (!errors.Is(err, os.ErrDeadlineExceeded) || time.Since(asked) < 2*grace) {
			break
		}
	}
	if err := r.conn.SetReadDeadline(time.Time{}); err != nil {
		return fmt.Errorf("drain heartbeats on path %d: %w", r.path+1, err)
	}
	return nil
}

// read reads one datagram. Only the socket's own errors are returned: what is in a datagram is a fault of who sent it.
func (r *reader) read(ctx context.Context) error {
	n, addr, err := r.conn.ReadFrom(r.buf[:])
	if err != nil {
		return err
	}
	e := event{path: r.path, wall: r.b.o.Now()}
	if udp, ok := addr.(*net.UDPAddr); ok {
		e.from = udp.AddrPort()
		e.from = netip.AddrPortFrom(e.from.Addr().Unmap(), e.from.Port())
	}
	plain, err := r.sealer.open(r.buf[:n])
	if err == nil {
		e.beat, err = decode(plain)
	}
	var newer newerError
	switch host := e.from.Addr().String(); {
	case err == nil:
		r.tell(ctx, e)
	case errors.Is(err, errKey):
		r.b.faults.Add("key "+host, fmt.Sprintf("heartbeats from %s on path %d are not sealed by a key of this keyring: its keyring differs, or it is of another cluster", host, r.path+1), 0)
	case errors.As(err, &newer):
		r.b.faults.Add("format "+host, fmt.Sprintf("heartbeats from %s: %v: upgrade this director", host, err), 0)
	default:
		r.b.faults.Add("garbage "+host, fmt.Sprintf("heartbeats from %s: %v", host, err), 0)
	}
	return nil
}

func (r *reader) tell(ctx context.Context, e event) {
	select {
	case r.events <- e:
	case <-ctx.Done():
	}
}

// wait sleeps, but not longer than ctx.
func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
