package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// A StreamLine is one line of the answer to a stream of tunnels. Exactly one of error, kept, warnings, progress and
// summary is there; the summary is the last line, and its absence means that the answer was cut off.
type StreamLine struct {
	Line     int       `json:"line,omitempty" doc:"of the request, from 1"`
	ID       string    `json:"id,omitempty"`
	Error    *Problem  `json:"error,omitempty" doc:"this item was refused"`
	Kept     string    `json:"kept,omitempty" doc:"why a tunnel that the set does not name is not deleted"`
	Warnings []string  `json:"warnings,omitempty" doc:"accepted, but worth knowing"`
	Progress *Progress `json:"progress,omitempty"`
	Summary  *Summary  `json:"summary,omitempty"`
}

// Progress is how far a stream is.
type Progress struct {
	Lines   int     `json:"lines" doc:"durable or refused so far"`
	Refused int     `json:"refused"`
	Seconds float64 `json:"seconds"`
}

// A Summary is the end of a stream.
type Summary struct {
	Lines      int      `json:"lines" doc:"that were not empty"`
	Created    int      `json:"created"`
	Changed    int      `json:"changed"`
	Unchanged  int      `json:"unchanged" doc:"deletions of what did not exist among them"`
	Deleted    int      `json:"deleted"`
	Refused    int      `json:"refused"`
	Untold     int      `json:"untold,omitempty" doc:"of the refused ones, those without a line of their own: the first 10,000 have one"`
	Unanswered int      `json:"unanswered,omitempty" doc:"read, but it is not known whether they are durable: send them again"`
	Unplaced   int      `json:"unplaced" doc:"accepted without a real server that has room"`
	Pending    int      `json:"pending,omitempty" doc:"accepted, and to be placed by the director that assigns"`
	Warned     int      `json:"warned,omitempty"`
	Revision   string   `json:"revision"`
	Seconds    float64  `json:"seconds"`
	Programmed []string `json:"programmed,omitempty" doc:"directors whose data planes have all of it"`
	Complete   bool     `json:"complete" doc:"the body was read to its end, and each line answered"`
	Why        string   `json:"why,omitempty" doc:"why it is not complete"`

	// Of complete sets only.
	Warnings []string `json:"warnings,omitempty" doc:"about the set as a whole"`
	Owner    string   `json:"owner,omitempty"`
	DryRun   bool     `json:"dry_run,omitempty" doc:"nothing was changed: the counts are what would be"`
	Kept     int      `json:"kept,omitempty" doc:"not named by the set, but not deleted: up, or named by a line that was refused"`
	Newer    int      `json:"newer,omitempty" doc:"pushed since the request began, so left alone"`
	Names    SetNames `json:"names,omitzero" doc:"the first 100 of each kind"`
}

// SetNames are examples of what a complete set changes.
type SetNames struct {
	Create []string `json:"create,omitempty"`
	Change []string `json:"change,omitempty"`
	Delete []string `json:"delete,omitempty"`
	Keep   []string `json:"keep,omitempty"`
	Newer  []string `json:"newer,omitempty"`
}

var errUnread = errors.New("the client does not read the answer")

const answerBlocks = 256 // of 32 KiB that may wait for a client which sends everything before it reads

// An answers writes lines to a client that may be slow, without holding up the work until 8 MiB wait.
type answers struct {
	buf    []byte
	blocks chan []byte
	failed chan struct{}
	done   chan struct{}
	whole  bool // what is answered goes on to its end, whoever reads
}

func newAnswers(w http.ResponseWriter, r *http.Request) *answers {
	a := &answers{blocks: make(chan []byte, answerBlocks), failed: make(chan struct{}), done: make(chan struct{})}
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("X-Accel-Buffering", "no")
	rc := http.NewResponseController(w)
	go a.write(w, r, rc)
	return a
}

func (a *answers) write(w http.ResponseWriter, r *http.Request, rc *http.ResponseController) {
	defer close(a.done)
	defer func() { _ = rc.SetWriteDeadline(time.Time{}) }() // the connection goes on to the next request
	begun, broken := false, false
	for b := range a.blocks {
		if broken {
			continue
		}
		if !begun {
			begun = true
			endWithAnswer(w, r)
		}
		_ = rc.SetWriteDeadline(time.Now().Add(writeTimeout)) // a recorder has none
		_, err := w.Write(b)
		if err == nil && len(a.blocks) == 0 {
			err = rc.Flush()
		}
		if err != nil && !errors.Is(err, http.ErrNotSupported) {
			broken = true
			close(a.failed)
		}
	}
}

// add queues a line.
func (a *answers) add(v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode an answer: %w", err)
	}
	a.buf = append(append(a.buf, line...), '\n')
	if len(a.buf) >= 32<<10 {
		return a.flush()
	}
	return nil
}

// flush hands over what is queued.
func (a *answers) flush() error {
	if len(a.buf) == 0 {
		return nil
	}
	select {
	case a.blocks <- a.buf:
		a.buf = nil
		return nil
	case <-a.failed:
		a.buf = nil
		if a.whole {
			return nil
		}
		return errUnread
	}
}

// close sends the rest.
func (a *answers) close() error {
	err := a.flush()
	close(a.blocks)
	<-a.done
	if a.whole && isClosed(a.failed) {
		return errUnread
	}
	return err
}
