package journal

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"tunneldirector/director/api"
)

// slack is how much the order of times may differ from that of writing.
const slack = time.Minute

// A position is where a line begins. The zero position is before all.
type position struct {
	number uint64
	offset int64
}

func (p position) String() string { return fmt.Sprintf("%d:%d", p.number, p.offset) }

func (p position) before(o position) bool {
	return p.number < o.number || p.number == o.number && p.offset < o.offset
}

func parsePosition(s string) (position, error) {
	number, offset, _ := strings.Cut(s, ":")
	n, err1 := strconv.ParseUint(number, 10, 64)
	o, err2 := strconv.ParseInt(offset, 10, 64)
	if err1 != nil || err2 != nil || o < 0 {
		return position{}, fmt.Errorf("%w: %q is not a position, which is FILE:OFFSET as events have it", api.ErrBadPosition, s)
	}
	return position{n, o}, nil
}

// Read finds what was kept. It reads files, and holds nobody up.
func (j *Journal) Read(ctx context.Context, q api.EventQuery) (api.EventList, error) {
	list, err := listFiles(j.o.Dir)
	if err != nil {
		return api.EventList{}, fmt.Errorf("read the journal: %w", err)
	}
	r := reader{ctx: ctx, dir: j.o.Dir, q: q, match: newMatch(q)}
	if q.After != "" {
		return r.forward(list)
	}
	return r.backward(list)
}

type reader struct {
	ctx   context.Context
	dir   string
	q     api.EventQuery
	match match
	out   api.EventList
	end   position // the furthest line that was read
}

// forward finds the oldest after a position.
func (r *reader) forward(list []file) (api.EventList, error) {
	after, err := parsePosition(r.q.After)
	if err != nil {
		return r.out, err
	}
	if len(list) > 0 && after.number < list[0].number && after.number > 0 {
		return r.out, fmt.Errorf("events after %s: %w", after, api.ErrGone)
	}
	if last := len(list) - 1; after.number > 0 && (last < 0 || after.number > list[last].number || after.number == list[last].number && after.offset > list[last].size) {
		return r.out, fmt.Errorf("events after %s: %w", after, api.ErrGone) // of another director, or of a directory before this one
	}
	r.end = after
	for _, f := range list {
		s := scan{file: f, most: r.q.Limit - len(r.out.Events)}
		if f.number < after.number || s.most == 0 {
			continue
		}
		if f.number == after.number {
			s.after = &after.offset
		}
		found, err := r.scan(s)
		if err != nil {
			return r.out, err
		}
		r.out.Events = append(r.out.Events, found...)
	}
	r.out.End, r.out.More = r.end.String(), len(r.out.Events) == r.q.Limit
	return r.out, nil
}

// backward finds the newest, or those before a position.
func (r *reader) backward(list []file) (api.EventList, error) {
	before := position{number: math.MaxUint64}
	if r.q.Before != "" {
		var err error
		if before, err = parsePosition(r.q.Before); err != nil {
			return r.out, err
		}
	}
	for _, f := range slices.Backward(list) {
		if f.number > before.number {
			continue
		}
		if r.end.number > 0 && !r.q.Since.IsZero() && f.last.Before(r.q.Since.Add(-slack)) {
			break
		}
		s := scan{file: f, most: r.q.Limit + 1 - len(r.out.Events), newest: true}
		if f.number == before.number {
			s.before = &before.offset
		}
		found, err := r.scan(s)
		if err != nil {
			return r.out, err
		}
		if r.out.Events = append(found, r.out.Events...); len(r.out.Events) > r.q.Limit {
			r.out.More, r.out.Events = true, r.out.Events[1:]
			break
		}
	}
	r.out.End = r.end.String()
	return r.out, nil
}

// A scan is of one file.
type scan struct {
	file   file
	after  *int64 // nil: from its beginning
	before *int64 // nil: to its end
	most   int    // events
	newest bool   // of them; else the oldest
}

// scan finds events, and notes the furthest line that it read.
func (r *reader) scan(s scan) (found []api.Recorded, err error) {
	in, err := os.Open(s.file.path(r.dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // deleted meanwhile: it was the oldest
	}
	if err != nil {
		return nil, fmt.Errorf("read the journal: %w", err)
	}
	defer in.Close()
	at := position{number: s.file.number}
	if s.after != nil {
		at.offset = *s.after
	}
	if _, err := in.Seek(at.offset, io.SeekStart); err != nil {
		return nil, fmt.Errorf("read the journal: %w", err)
	}
	lines := bufio.NewReaderSize(in, 64<<10)
	for s.before == nil || at.offset < *s.before {
		line, err := nextLine(lines)
		if errors.Is(err, io.EOF) {
			break // what is left is still being written
		}
		if err != nil {
			return nil, fmt.Errorf("read the journal: %w", err)
		}
		here := at
		at.offset += line.length
		if r.end.before(here) {
			r.end = here
		}
		if s.after != nil && here.offset == *s.after {
			continue // this is the one after which it begins
		}
		e, state := r.match.line(line.text)
		switch state {
		case unreadable:
			r.out.Unreadable++
		case matches:
			e.Position = here.String()
			found = append(found, e)
		}
		switch {
		case !s.newest && len(found) == s.most:
			return found, nil
		case len(found) > 2*s.most:
			found = append(found[:0], found[len(found)-s.most:]...)
		}
		if r.ctx.Err() != nil {
			return nil, context.Cause(r.ctx)
		}
	}
	return found[max(0, len(found)-s.most):], nil
}

type line struct {
	text   []byte // without its end; valid until the next
	length int64  // with it
}

// nextLine reads a line. One that is longer than any of ours is cut.
func nextLine(r *bufio.Reader) (line, error) {
	text, err := r.ReadSlice('\n')
	l := line{text, int64(len(text))}
	for errors.Is(err, bufio.ErrBufferFull) {
		var more []byte
		more, err = r.ReadSlice('\n')
		l.text, l.length = nil, l.length+int64(len(more))
	}
	return line{bytes.TrimSuffix(l.text, []byte{'\n'}), l.length}, err
}

// firstTime is when a file's first event happened, or what is said instead.
func firstTime(path string, instead time.Time) time.Time {
	f, err := os.Open(path)
	if err != nil {
		return instead
	}
	defer f.Close()
	var e api.Recorded
	if l, err := nextLine(bufio.NewReaderSize(f, 64<<10)); err != nil || json.Unmarshal(l.text, &e) != nil || e.Time.IsZero() {
		return instead
	}
	return e.Time
}
