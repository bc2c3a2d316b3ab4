package inject

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// fullWindow is how many messages may be under way at once. The daemon's queue has room for a dozen (212,992 bytes by
	// default, of which a full message takes 17 thousand), and is not faster for more than four. A queue that is
	// shorter shows by what it drops: then the window is halved, and stays so, because the queue does, too.
	fullWindow = 8
	// messageSize is how long a message may be: the longest of IPv4. A queue counts a message's memory, not its length, so that
	// shorter ones would not get more entries into it.
	messageSize = headerSize + maxConns*connSize4
	// arrival is how long a message may be on its way, and patience how long the daemon may do nothing: as long as a machine
	// that swaps may stand still.
	arrival, patience = 300 * time.Millisecond, 10 * time.Second
	// attempts is how often in a row the same messages may get lost.
	attempts = 10
	// rest is how long to wait between two looks at the daemon's queue, at least; the kernel makes some 50 µs of it.
	rest = 5 * time.Microsecond
)

var errLost = errors.New("messages were lost")

// Send puts conns into the kernel's table in their order, and returns when the kernel has dealt with all of them. What gets lost
// on the way is sent again, with all that came after it. Whether the kernel had the memory for an entry is not told: the
// connection counters of the service's destinations show it. On an error, or when ctx has ended, the first of conns may be
// there.
func (l *Link) Send(ctx context.Context, conns []Conn) error {
	for _, c := range conns {
		if err := c.Check(); err != nil {
			return err
		}
	}
	unpin, err := pin()
	if err != nil {
		return fmt.Errorf("inject: %w", err)
	}
	defer unpin()
	for len(conns) > 0 {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("inject: %w", err)
		}
		n, err := l.window(conns)
		if err != nil {
			return fmt.Errorf("inject: %w", err)
		}
		conns = conns[n:]
	}
	return nil
}

// pin keeps the goroutine on one thread and the thread on the CPU that it is on. What is sent into a veth waits in its
// CPU's queue: two messages from two CPUs may overtake each other.
func pin() (unpin func(), err error) {
	runtime.LockOSThread()
	var before, one unix.CPUSet
	var cpu uint32
	if _, _, e := unix.RawSyscall(unix.SYS_GETCPU, uintptr(unsafe.Pointer(&cpu)), 0, 0); e != 0 {
		runtime.UnlockOSThread()
		return nil, os.NewSyscallError("getcpu", e)
	}
	one.Set(int(cpu))
	err = unix.SchedGetaffinity(0, &before)
	if err == nil {
		err = unix.SchedSetaffinity(0, &one)
	}
	if err != nil {
		runtime.UnlockOSThread()
		return nil, fmt.Errorf("stay on CPU %d: %w", cpu, err)
	}
	return func() {
		// A thread that cannot be let go stays locked, and ends with its goroutine.
		if unix.SchedSetaffinity(0, &before) == nil {
			runtime.UnlockOSThread()
		}
	}, nil
}

// window sends the first of conns, as many as may be under way at once, until the kernel has dealt with them.
func (l *Link) window(conns []Conn) (sent int, err error) {
	for range attempts {
		var messages [][]Conn
		sent = 0
		for sent < len(conns) && len(messages) < l.size {
			n := next(conns[sent:], messageSize)
			messages, sent = append(messages, conns[sent:sent+n]), sent+n
		}
		err = l.exchange(messages)
		if !errors.Is(err, errLost) {
			return sent, err
		}
		l.size = max(l.size/2, 1)
		l.o.Logger.Warn("send IPVS synchronisation messages again", "messages", len(messages), "window", l.size, "cause", err)
	}
	return 0, fmt.Errorf("%w (%d times in a row; does a packet filter drop UDP to %v port %d on %s?)", err, attempts, l.o.Group, l.o.Port, Interface)
}

// exchange sends messages and markers, and returns when the kernel has dealt with them, or errLost.
func (l *Link) exchange(messages [][]Conn) error {
	// What an exchange that was given up has left under way is none of this one's.
	if _, _, err := l.witness.take(0); err != nil {
		return err
	}
	l.marker += 2
	seen, marked := 0, false
	take := func() error {
		n, m, err := l.witness.take(l.marker)
		seen, marked = seen+n, marked || m
		return err
	}
	for _, conns := range messages {
		l.buffer = appendMessage(l.buffer[:0], l.o.SyncID, conns)
		if err := errors.Join(l.send(), take()); err != nil {
			return err
		}
	}
	// Two markers: when the witness has the second, the first is in the daemon's queue or was in it, whichever of the two
	// sockets the kernel serves first.
	for _, number := range [...]uint64{l.marker - 1, l.marker} {
		l.buffer = appendMarker(l.buffer[:0], l.o.SyncID, number)
		if err := l.send(); err != nil {
			return err
		}
	}
	for end := time.Now().Add(arrival); !marked; {
		if time.Now().After(end) {
			return fmt.Errorf("%w: the last has not come by %s after %v", errLost, Interface, arrival)
		}
		if err := errors.Join(l.witness.wait(10*time.Millisecond), take()); err != nil {
			return err
		}
	}
	if seen != len(messages) {
		return fmt.Errorf("%w: %d of %d have come by %s", errLost, seen, len(messages), Interface)
	}
	return l.settle()
}

// send sends the buffer.
func (l *Link) send() error {
	for {
		_, err := unix.Write(l.sender, l.buffer)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, unix.EINTR):
			return os.NewSyscallError("write", err)
		}
	}
}

// settle waits until the daemon's queue is empty. If nothing was dropped the daemon has then taken a marker, and so dealt
// with all before it.
func (l *Link) settle() error {
	queued, moved := -1, time.Now()
	for {
		now, err := l.gauge.read()
		switch {
		case err != nil:
			return err
		case now.queued == 0 && now.drops != l.drops:
			lost := now.drops - l.drops
			l.drops = now.drops
			return fmt.Errorf("%w: the daemon's queue had no room for %d", errLost, lost)
		case now.queued == 0:
			return nil
		case now.queued != queued:
			queued, moved = now.queued, time.Now()
		case time.Since(moved) > patience:
			return fmt.Errorf("the kernel's daemon has taken nothing for %v, %d bytes are waiting", patience, queued)
		}
		// The thread is this goroutine's alone: to sleep on it is five times shorter than to hand over to another.
		_ = unix.Nanosleep(&unix.Timespec{Nsec: int64(rest)}, nil)
	}
}
