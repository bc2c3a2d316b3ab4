package api

import (
	"context"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Events yields what a director has on disk, and the page after it; with follow, what happens then until ctx ends or the
// caller stops. An error ends it; after one, go on after the last position or end.
func (c *Client) Events(ctx context.Context, q EventQuery, follow bool) iter.Seq2[EventLine, error] {
	return func(yield func(EventLine, error) bool) {
		res, err := c.send(ctx, http.MethodGet, "/v1/events", q.values(follow), "", nil)
		if err != nil {
			yield(EventLine{}, err)
			return
		}
		defer res.Body.Close()
		whole, stopped := false, false
		err = eachLine(res.Body, func(l EventLine) {
			whole = whole || l.Page != nil
			if !stopped && !yield(l, nil) {
				stopped = true
				_ = res.Body.Close() // it may be followed for ever
			}
		})
		switch {
		case stopped || ctx.Err() != nil:
		case err != nil:
			yield(EventLine{}, fmt.Errorf("read events: %w", err))
		case follow || !whole:
			yield(EventLine{}, errEnded)
		}
	}
}

func (q *EventQuery) values(follow bool) url.Values {
	v := url.Values{}
	set := func(name, value string) {
		if value != "" {
			v.Set(name, value)
		}
	}
	if !q.Since.IsZero() {
		v.Set("since", q.Since.UTC().Format(time.RFC3339Nano))
	}
	if !q.Until.IsZero() {
		v.Set("until", q.Until.UTC().Format(time.RFC3339Nano))
	}
	for _, k := range q.Kinds {
		v.Add("kind", k)
	}
	set("object", q.Object)
	set("by", q.By)
	set("before", q.Before)
	set("after", q.After)
	if q.Limit > 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	if follow {
		v.Set("follow", "true")
	}
	return v
}
