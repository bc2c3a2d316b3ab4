package fastd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"tunneldirector/director/agent"
)

// again is how long fastd gets to take notice of SIGHUP: it reads all its peers' files.
const again = 3 * time.Second

// isKey is what fastd takes for a key. Nothing else is to get into a file that fastd reads.
var isKey = regexp.MustCompile(`^[0-9a-f]{64}$`)

// sweep enables, once, peers that a driver before this one, killed in the middle, left disabled.
func (t *Terminator) sweep(pid int) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.opts.Clear == "" || pid == 0 || t.swept {
		return nil
	}
	files, err := os.ReadDir(t.opts.Clear)
	if err != nil {
		return fmt.Errorf("look for peers left disabled: %w", err)
	}
	t.swept = true
	left := 0
	for _, f := range files {
		if !isKey.MatchString(f.Name()) {
			continue
		}
		if err := os.Remove(filepath.Join(t.opts.Clear, f.Name())); err != nil {
			return fmt.Errorf("enable peer %s, left disabled: %w", f.Name(), err)
		}
		left++
	}
	if left == 0 {
		return nil
	}
	return hangUp(pid)
}

// clear ends the tunnel of one peer, and returns when the peer may have another.
func (t *Terminator) clear(ctx context.Context, pid int, in agent.Inherited) (err error) {
	if !isKey.MatchString(in.Peer) || pid == 0 {
		return fmt.Errorf("clear peer %q: it takes fastd's pid (%d) and the peer's key", in.Peer, pid)
	}
	if err := t.sweep(pid); err != nil {
		return err
	}
	file := filepath.Join(t.opts.Clear, in.Peer)
	if err := disable(file, in.Peer); err != nil {
		return fmt.Errorf("clear peer %s: %w", in.Peer, err)
	}
	err = t.reload(ctx, pid, in.Peer, func(f found) bool { return !f.connected })
	if gone := os.Remove(file); gone != nil {
		return fmt.Errorf("clear peer %s, which is disabled now: %w", in.Peer, errors.Join(gone, err))
	}
	if err != nil {
		err = fmt.Errorf("clear peer %s: does fastd include peers from %s? %w", in.Peer, t.opts.Clear, err)
	}
	// Also after a failure, and a context that is no more: a peer must not stay disabled.
	back := t.reload(context.WithoutCancel(ctx), pid, in.Peer, func(f found) bool { return f.there })
	if back != nil {
		back = fmt.Errorf("enable peer %s again: %w", in.Peer, back)
	}
	return errors.Join(err, back)
}

// disable writes a file of one peer. What is there by its name is not written to: it may be a link to somewhere else.
func disable(file, key string) error {
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString("key \"" + key + "\";\n")
	return errors.Join(err, f.Close())
}

// reload has fastd read its peers again, and waits until it shows at one.
func (t *Terminator) reload(ctx context.Context, pid int, key string, shows func(found) bool) error {
	if err := hangUp(pid); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, again, fmt.Errorf("it shows no effect of SIGHUP in %s", again))
	defer cancel()
	for {
		f, err := t.find(ctx, key)
		if err != nil {
			return err
		}
		if shows(f) {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(10 * time.Millisecond):
		}
	}
}
