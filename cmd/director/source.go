package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"tunneldirector/cmd/console"
)

// A source is a file of tunnels, or standard input.
type source struct {
	name   string
	r      io.Reader
	format string
	size   int64 // bytes; -1: not known
	close  func() error
}

// openSource opens a file, "-" for standard input, and finds out its format unless it is said.
func openSource(ctx context.Context, env *console.Env, name, format string) (*source, error) {
	s := &source{name: name, size: -1, format: format, close: func() error { return nil }}
	if name == "-" {
		s.name, s.r = "standard input", &interruptible{ctx: ctx, r: env.Stdin}
	} else {
		f, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("open the tunnels: %w", err)
		}
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			s.size = info.Size()
		}
		s.r, s.close = f, f.Close
	}
	if s.format == "" {
		s.format = formatOfName(name)
	}
	if s.format == "" {
		buffered := bufio.NewReader(s.r)
		head, _ := buffered.Peek(512) // an error comes again when it is read
		s.r, s.format = buffered, formatOfText(head)
	}
	return s, nil
}

func checkFormat(format string) error {
	if format != "" && format != formatNDJSON && format != formatCSV {
		return console.Usage("--format %s: is neither %s nor %s", format, formatNDJSON, formatCSV)
	}
	return nil
}

func formatOfName(name string) string {
	switch ext := strings.ToLower(filepath.Ext(name)); {
	case ext == ".csv":
		return formatCSV
	case slices.Contains([]string{".ndjson", ".jsonl", ".json"}, ext):
		return formatNDJSON
	}
	return ""
}

func formatOfText(head []byte) string {
	if head = bytes.TrimLeft(bytes.TrimPrefix(head, []byte("\ufeff")), " \t\r\n"); len(head) > 0 && head[0] != '{' {
		return formatCSV
	}
	return formatNDJSON
}

// spool copies what can be read only once into a file without a name, so that it can be read twice.
func (s *source) spool() (*os.File, error) {
	f, err := os.CreateTemp("", "director-import-*")
	if err != nil {
		return nil, fmt.Errorf("keep the tunnels while they are checked: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(fmt.Errorf("keep the tunnels while they are checked: %w", err), f.Close())
	}
	if _, err := io.Copy(f, s.r); err != nil {
		return nil, errors.Join(fmt.Errorf("keep the tunnels while they are checked: %w", err), f.Close())
	}
	return f, nil
}

// An interruptible reader fails when its context ends, even while a read waits.
type interruptible struct {
	ctx     context.Context // of the one command that reads
	r       io.Reader
	started bool
	buf     []byte
	chunks  chan chunk
}

type chunk struct {
	data []byte
	err  error
}

func (i *interruptible) Read(p []byte) (int, error) {
	if !i.started {
		i.started, i.chunks = true, make(chan chunk)
		go i.pump()
	}
	if len(i.buf) == 0 {
		select {
		case c := <-i.chunks:
			if len(c.data) == 0 {
				return 0, c.err
			}
			i.buf = c.data
		case <-i.ctx.Done():
			return 0, i.ctx.Err()
		}
	}
	n := copy(p, i.buf)
	i.buf = i.buf[n:]
	return n, nil
}

// pump ends with the input; while a read waits for a terminal it stays until the process ends.
func (i *interruptible) pump() {
	for {
		data := make([]byte, 64<<10)
		n, err := i.r.Read(data)
		if n > 0 && !i.hand(chunk{data: data[:n]}) {
			return
		}
		if err != nil {
			for i.hand(chunk{err: err}) {
			}
			return
		}
	}
}

func (i *interruptible) hand(c chunk) bool {
	select {
	case i.chunks <- c:
		return true
	case <-i.ctx.Done():
		return false
	}
}
