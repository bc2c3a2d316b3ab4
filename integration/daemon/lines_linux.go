package daemon

import (
	"bytes"
	"fmt"
	"io"
	"sync"
)

// Named is where a process may write to: each line goes on to another writer, with a name before it. Several may write to that at once.
func Named(to io.Writer, name string) io.Writer { return &lines{to: to, name: name} }

type lines struct {
	to   io.Writer
	name string

	mu   sync.Mutex // guards rest
	rest []byte
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rest = append(l.rest, b...)
	for {
		line, rest, whole := bytes.Cut(l.rest, []byte("\n"))
		if !whole {
			return len(b), nil
		}
		if _, err := fmt.Fprintf(l.to, "%s | %s\n", l.name, line); err != nil {
			return 0, err
		}
		l.rest = rest
	}
}
