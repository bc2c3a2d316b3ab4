package space

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/vishvananda/netns"
)

// A Space is a network namespace: "" is the process's own, a name is one of /run/netns, and what has a slash in it is a path.
// A namespace is looked up at each Do, since it may be made anew.
type Space string

func (s Space) path() string {
	if strings.Contains(string(s), "/") {
		return string(s)
	}
	return filepath.Join("/run/netns", string(s))
}

// Do runs f in s, on a thread that is locked to it. Sockets that f opens stay in s; goroutines that it starts do not.
func (s Space) Do(f func() error) (err error) {
	if s == "" {
		return f()
	}
	to, err := netns.GetFromPath(s.path())
	if err != nil {
		return fmt.Errorf("network namespace %s: %w", s, err)
	}
	defer to.Close()
	done := make(chan error, 1)
	go func() { // a thread that cannot get back is not given back, but ends with its goroutine
		runtime.LockOSThread()
		from, err := netns.Get()
		if err != nil {
			done <- fmt.Errorf("own network namespace: %w", err)
			return
		}
		defer from.Close()
		if err := netns.Set(to); err != nil {
			done <- fmt.Errorf("enter network namespace %s: %w", s, err)
			return
		}
		err = f()
		if back := netns.Set(from); back != nil {
			err = errors.Join(err, fmt.Errorf("leave network namespace %s: %w", s, back))
		} else {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}
