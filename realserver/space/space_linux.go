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
		err := errors.New("it ended its goroutine") // as t.Fatal does
		defer func() { done <- err }()
		err = s.inside(to, f)
	}()
	return <-done
}

// inside runs f in a namespace, on a thread of its own.
func (s Space) inside(to netns.NsHandle, f func() error) error {
	runtime.LockOSThread()
	from, err := netns.Get()
	if err != nil {
		return fmt.Errorf("own network namespace: %w", err)
	}
	defer from.Close()
	if err := netns.Set(to); err != nil {
		return fmt.Errorf("enter network namespace %s: %w", s, err)
	}
	err = f()
	if back := netns.Set(from); back != nil {
		return errors.Join(err, fmt.Errorf("leave network namespace %s: %w", s, back))
	}
	runtime.UnlockOSThread()
	return err
}
