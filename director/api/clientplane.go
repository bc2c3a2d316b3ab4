package api

import (
	"context"
	"fmt"
	"io"
	"net/http"
)

// Pairs are the addresses that stand for pairs of real servers in the kernel's tables.
func (c *Client) Pairs(ctx context.Context) ([]Pair, error) {
	list, err := call[PairList](ctx, c, http.MethodGet, "/v1/plane/pairs", nil, nil)
	return list.Pairs, err
}

// Audit compares what the kernel holds with what it should. Each difference and sign of life goes to tell. Cancel ctx to
// end it; an audit that did not get to its end is an error.
func (c *Client) Audit(ctx context.Context, tell func(AuditLine)) (AuditSummary, error) {
	res, err := c.send(ctx, http.MethodPost, "/v1/plane/audit", nil, "", nil)
	if err != nil {
		return AuditSummary{}, err
	}
	defer res.Body.Close()
	var sum *AuditSummary
	err = eachLine(res.Body, func(l AuditLine) {
		if l.Summary != nil {
			sum = l.Summary
			return
		}
		tell(l)
	})
	switch {
	case sum == nil && err == nil:
		err = io.ErrUnexpectedEOF
		fallthrough
	case err != nil:
		return AuditSummary{}, fmt.Errorf("read the audit: %w", err)
	case !sum.Complete:
		return *sum, fmt.Errorf("the audit ended early: %s", sum.Why)
	}
	return *sum, nil
}
