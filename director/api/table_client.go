package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// ExportTable reads the whole table at one moment, a line at a time. The error is nil if it came to its end.
func (c *Client) ExportTable(ctx context.Context, each func(TableLine) error) error {
	res, err := c.send(ctx, http.MethodGet, "/v1/table", nil, "", nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	whole, n := false, 0
	var failed error
	err = eachLine(res.Body, func(l TableLine) {
		switch {
		case l.End != nil:
			whole = l.End.Tunnels == n
		case l.Tunnel != nil:
			n++
		}
		if failed == nil {
			failed = each(l)
		}
	})
	switch {
	case failed != nil:
		return failed
	case err == nil && !whole:
		err = errors.New("it was cut off")
	}
	if err != nil {
		return fmt.Errorf("read the table: %w", err)
	}
	return nil
}

// ImportOptions are of an import.
type ImportOptions struct{ DryRun, KeepPlacement bool }

// ImportTable makes all that a table has so; write writes its lines, as ExportTable told them. It is refused as a whole, or
// taken in as Batch is.
func (c *Client) ImportTable(ctx context.Context, o ImportOptions, write func(io.Writer) error, tell func(StreamLine)) (Summary, error) {
	return c.stream(ctx, http.MethodPut, "/v1/table", flags(map[string]bool{"dry_run": o.DryRun, "keep_placement": o.KeepPlacement}), write, tell)
}
