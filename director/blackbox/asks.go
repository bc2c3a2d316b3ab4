package blackbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"tunneldirector/director/api"
)

// errBusy is what those are told for whom the owner of the files has no time.
var errBusy = errors.New("the black box does not answer: its disk may hang")

// ask has Run's goroutine do something, and waits for what comes of it.
func ask[T any](ctx context.Context, r *Recorder, do func() (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	ctx, cancel := context.WithTimeoutCause(ctx, answersIn, errBusy)
	defer cancel()
	answers := make(chan answer, 1)
	var none T
	select {
	case r.asks <- func() {
		v, err := do()
		answers <- answer{v, err}
	}:
	case <-r.ended:
		return none, errEnded
	case <-ctx.Done():
		return none, context.Cause(ctx)
	}
	select {
	case a := <-answers:
		return a.value, a.err
	case <-ctx.Done():
		return none, context.Cause(ctx)
	}
}

// Record begins a recording because somebody asked, or has the one that goes on be about this, too. It returns when it has begun.
func (r *Recorder) Record(ctx context.Context, by, why string) (api.Recording, error) {
	if why == "" {
		why = "asked for"
	}
	return ask(ctx, r, func() (api.Recording, error) {
		return r.begin(Trigger{Kind: kindOperator, Object: by, Why: why})
	})
}

// Recordings tells what is on disk and in memory, and what is wrong.
func (r *Recorder) Recordings() (api.RecordingList, error) {
	return ask(context.Background(), r, func() (api.RecordingList, error) {
		l := api.RecordingList{Director: r.o.Director, Recordings: append([]api.Recording{}, r.files.list...), MaxBytes: r.o.MaxSize, Kept: r.kept.kept(), Error: r.wrong()}
		if r.open != nil {
			l.Recordings = append(l.Recordings, r.open.listed)
		}
		return l, nil
	})
}

// Recording opens the file of one; of one that is being written, what there is now. The error wraps fs.ErrNotExist if there is none of
// this id.
func (r *Recorder) Recording(id string) (io.ReadCloser, error) {
	if _, err := began(id); err != nil {
		return nil, err
	}
	return ask(context.Background(), r, func() (io.ReadCloser, error) {
		if r.open == nil || r.open.listed.ID != id {
			return r.files.open(id)
		}
		if err := r.open.writeAll(); err != nil {
			r.check(err)
			return r.files.open(id)
		}
		f, err := os.Open(r.open.out.Name())
		if err != nil {
			return nil, fmt.Errorf("recording %q: %w", id, err)
		}
		return whatThereIs{io.NewSectionReader(f, 0, r.open.listed.Bytes), f}, nil
	})
}

// whatThereIs is the part of a file that was whole when it was opened.
type whatThereIs struct {
	io.Reader
	io.Closer
}
