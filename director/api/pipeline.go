package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"tunneldirector/affinity"
)

const (
	chunkLines   = 2000
	chunkBytes   = 4 << 20
	parseWorkers = 2
)

// An item is one line: what it asks for, or what is wrong with it.
type item struct {
	line    int
	id      string
	op      affinity.Op // nil: see problem
	problem *Problem
	braced  bool // begins as a JSON object does
}

// A chunk is some lines that are applied together.
type chunk struct {
	data   []byte // all lines, joined
	lines  []rawLine
	items  []item
	parsed chan struct{} // closed when items are there
}

type rawLine struct {
	num, from, to int
	kind          lineKind
}

func (c *chunk) bytes(l rawLine) []byte { return c.data[l.from:l.to] }

// A parser makes an item of a line. It is called by several goroutines.
type parser func(data []byte) (id string, op affinity.Op, p *Problem)

func (c *chunk) parse(parse parser) {
	c.items = make([]item, 0, len(c.lines))
	for _, l := range c.lines {
		it := item{line: l.num}
		switch l.kind {
		case lineOverlong:
			it.problem = problem(http.StatusRequestEntityTooLarge, kindTooLarge, "the line is too long",
				FieldError{Value: clip(string(c.bytes(l)[:min(40, l.to-l.from)])), Problem: "is over 1 MiB", Remedy: "one tunnel a line"})
		case lineCut:
			it.problem = problem(http.StatusBadRequest, kindMalformed, "the body was cut off in this line",
				FieldError{Problem: "is not whole", Remedy: "send it again"})
		default:
			data := c.bytes(l)
			it.braced = data[0] == '{'
			it.id, it.op, it.problem = parse(data)
		}
		c.items = append(c.items, it)
	}
	close(c.parsed)
}

var errStopping = errors.New("the director is stopping; send the rest to it again, or to another one")

// A pipeline reads lines, parses chunks of them in parallel, and hands them on in order. A chunk goes off when it is
// full, or as soon as the sender pauses and nothing is under way.
type pipeline struct {
	body    io.Reader
	parse   parser
	stop    func(error) // makes the body's reads fail
	consume func(*chunk) error

	work     chan *chunk
	ordered  chan *chunk
	underway atomic.Int32 // chunks handed off and not yet consumed
}

// run returns nil at the body's proper end, else what ended it early: the body's error, or consume's.
func (p *pipeline) run(ctx context.Context) error {
	p.work = make(chan *chunk, parseWorkers)
	p.ordered = make(chan *chunk, parseWorkers)
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx)) // a client that is gone ends the body; what it sent counts
	defer cancel()
	var g errgroup.Group
	var bodyErr error
	g.Go(func() error {
		defer close(p.work)
		defer close(p.ordered)
		bodyErr = p.read()
		return nil
	})
	for range parseWorkers {
		g.Go(func() error {
			for c := range p.work {
				c.parse(p.parse)
			}
			return nil
		})
	}
	g.Go(func() error {
		select {
		case <-stopping(ctx):
			p.stop(errStopping)
		case <-ctx.Done():
		}
		return nil
	})
	var consumeErr error
	for c := range p.ordered {
		<-c.parsed
		if consumeErr == nil {
			if consumeErr = p.consume(c); consumeErr != nil {
				p.stop(consumeErr)
			}
		}
		p.underway.Add(-1)
	}
	cancel()
	_ = g.Wait() // its goroutines return no errors
	if consumeErr != nil {
		return consumeErr
	}
	return bodyErr
}

// read cuts the body into chunks. What came before an error is handed on.
func (p *pipeline) read() error {
	lines := newLineReader(p.body, maxObject)
	c := newChunk()
	send := func() {
		if len(c.lines) > 0 {
			p.underway.Add(1)
			p.ordered <- c
			p.work <- c
			c = newChunk()
		}
	}
	defer func() { send() }()
	for num := 1; ; num++ {
		data, kind, err := lines.next()
		if len(data) > 0 {
			c.add(num, data, kind)
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case len(c.lines) >= chunkLines || len(c.data) >= chunkBytes:
			send()
		case lines.waiting() && p.underway.Load() == 0:
			send()
		}
	}
}

func newChunk() *chunk { return &chunk{parsed: make(chan struct{})} }

func (c *chunk) add(num int, data []byte, kind lineKind) {
	from := len(c.data)
	if kind == lineOverlong {
		data = data[:min(len(data), 64)] // enough to recognise it
	}
	c.data = append(c.data, data...)
	c.lines = append(c.lines, rawLine{num, from, len(c.data), kind})
}
