package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strings"
)

// Batch streams pushes and deletions. Each line of the answer but the summary goes to tell (nil: nobody) as it comes. An
// error that the items yield ends the batch; what was sent before stays. The error is nil if the director took in
// everything: look at the summary for what it refused.
func (c *Client) Batch(ctx context.Context, items iter.Seq2[BatchItem, error], progress bool, tell func(StreamLine)) (Summary, error) {
	return c.stream(ctx, http.MethodPost, "/v1/tunnels/batch", flags(map[string]bool{"progress": progress}), lines(items), tell)
}

// SetOptions are of a complete set.
type SetOptions struct {
	Owner    string // operators only
	Count    int    // of tunnels
	DryRun   bool
	Force    bool
	Progress bool
}

// PutSet makes the tunnels the complete wanted set of their owner.
func (c *Client) PutSet(ctx context.Context, o SetOptions, tunnels iter.Seq2[Tunnel, error], tell func(StreamLine)) (Summary, error) {
	q := flags(map[string]bool{"dry_run": o.DryRun, "force": o.Force, "progress": o.Progress})
	if o.Owner != "" {
		q.Set("owner", o.Owner)
	}
	write := func(w io.Writer) error {
		if err := json.NewEncoder(w).Encode(SetHeader{Count: &o.Count}); err != nil {
			return err
		}
		return lines(tunnels)(w)
	}
	return c.stream(ctx, http.MethodPut, "/v1/tunnels", q, write, tell)
}

// lines writes one JSON object a line.
func lines[T any](items iter.Seq2[T, error]) func(io.Writer) error {
	return func(w io.Writer) error {
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		for v, err := range items {
			if err != nil {
				return err
			}
			if err := enc.Encode(v); err != nil {
				return err
			}
		}
		return nil
	}
}

// stream sends what write writes while it reads the answer.
func (c *Client) stream(ctx context.Context, method, path string, q url.Values, write func(io.Writer) error, tell func(StreamLine)) (Summary, error) {
	out := newOutbox()
	written := make(chan error, 1)
	go func() {
		err := write(out)
		out.finish(err)
		written <- err
	}()
	sum, err := c.readStream(ctx, method, path, q, out, tell)
	out.hangUp(errAnswered) // the writer ends
	switch werr := <-written; {
	case err == nil && !sum.Complete:
		return sum, fmt.Errorf("the director did not take in everything: %s", sum.Why)
	case werr != nil && !errors.Is(werr, errAnswered) && !errors.Is(werr, io.ErrClosedPipe):
		return sum, werr // what the items said, rather than that the body was cut off
	}
	return sum, err
}

var errAnswered = errors.New("the director answered before it had everything")

func (c *Client) readStream(ctx context.Context, method, path string, q url.Values, body io.Reader, tell func(StreamLine)) (Summary, error) {
	res, err := c.send(ctx, method, path, q, "application/x-ndjson", body)
	if err != nil {
		return Summary{}, err
	}
	defer res.Body.Close()
	var sum *Summary
	err = eachLine(res.Body, func(l StreamLine) {
		if l.Summary != nil {
			sum = l.Summary
		} else if tell != nil {
			tell(l)
		}
	})
	switch {
	case sum != nil:
		return *sum, nil
	case err != nil:
		return Summary{}, fmt.Errorf("read the director's answer to %s %s: %w", method, path, err)
	}
	return Summary{}, fmt.Errorf("read the director's answer to %s %s: it ended without a summary; what was sent last may be lost, send it again", method, path)
}

func eachLine[T any](r io.Reader, f func(T)) error {
	d := json.NewDecoder(r)
	for {
		var v T
		switch err := d.Decode(&v); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		f(v)
	}
}

// Rebalance evens out the load; each move goes to tell. Cancel ctx to stop it.
func (c *Client) Rebalance(ctx context.Context, r RebalanceRequest, tell func(RebalanceLine)) (RebalanceSummary, error) {
	data, err := json.Marshal(r)
	if err != nil {
		return RebalanceSummary{}, fmt.Errorf("encode the request: %w", err)
	}
	res, err := c.send(ctx, http.MethodPost, "/v1/rebalance", nil, "application/json", bytes.NewReader(data))
	if err != nil {
		return RebalanceSummary{}, err
	}
	defer res.Body.Close()
	var sum *RebalanceSummary
	err = eachLine(res.Body, func(l RebalanceLine) {
		if l.Summary != nil {
			sum = l.Summary
		} else if tell != nil {
			tell(l)
		}
	})
	switch {
	case sum == nil && err == nil:
		err = io.ErrUnexpectedEOF
		fallthrough
	case err != nil:
		return RebalanceSummary{}, fmt.Errorf("read the moves: %w", err)
	case !sum.Complete:
		return *sum, fmt.Errorf("rebalance stopped: %s", sum.Why)
	}
	return *sum, nil
}

// A Watched is an event and the revision to go on from after it.
type Watched struct {
	Event
	Revision string
}

// Watch yields events after a revision ("": from now on) until ctx ends, the connection breaks or the caller stops. An
// error ends it; a *Problem with status 410 means: read the tunnels again, then watch from the list's revision.
func (c *Client) Watch(ctx context.Context, since string) iter.Seq2[Watched, error] {
	return func(yield func(Watched, error) bool) {
		q := url.Values{}
		if since != "" {
			q.Set("since", since)
		}
		res, err := c.send(ctx, http.MethodGet, "/v1/watch", q, "", nil)
		if err != nil {
			yield(Watched{}, err)
			return
		}
		defer res.Body.Close()
		if err := readEvents(res.Body, since, func(w Watched) bool { return yield(w, nil) }); err != nil && ctx.Err() == nil {
			yield(Watched{}, err)
		}
	}
}

var errEnded = errors.New("the director ended the stream; watch again from the last revision")

// readEvents parses server-sent events. Nil: the caller stopped.
func readEvents(r io.Reader, last string, f func(Watched) bool) error {
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, maxObject)
	var kind, data string
	for sc.Scan() {
		field, value, _ := strings.Cut(sc.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "id":
			last = value
		case "event":
			kind = value
		case "data":
			data = value
		case "":
			if sc.Text() != "" || data == "" {
				continue // a comment: the heartbeat
			}
			if kind == "gone" || kind == "end" {
				p := &Problem{}
				if err := json.Unmarshal([]byte(data), p); err != nil {
					return fmt.Errorf("read an event: %w", err)
				}
				return p
			}
			w := Watched{Revision: last}
			if err := json.Unmarshal([]byte(data), &w.Event); err != nil {
				return fmt.Errorf("read an event: %w", err)
			}
			kind, data = "", ""
			if !f(w) {
				return nil
			}
		}
	}
	if err := sc.Err(); err != nil {
		return fmt.Errorf("read events: %w", err)
	}
	return errEnded
}
