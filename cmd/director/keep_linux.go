package main

import (
	"context"
	"time"

	"tunneldirector/director/vip"
)

// keep renews what is held, and repeats its announcements, for as long as turns says that the loop turns: of a loop that hangs
// the addresses go when their lifetime is over. What is lost comes back by the loop's next Hold, or not. It returns when ctx
// ends.
func (h *host) keep(ctx context.Context, turns func() bool) error {
	renew := time.NewTicker(vip.RenewEvery)
	defer renew.Stop()
	repeat := time.NewTimer(0)
	defer repeat.Stop()
	turned := true
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-h.fresh:
		case <-repeat.C:
		case <-renew.C:
		}
		now := turns()
		if now != turned {
			h.log.Warn("the loop's turning changed; addresses are renewed only while it turns", "turns", now)
		}
		if turned = now; turned {
			repeat.Reset(h.renew(ctx))
		}
	}
}

// renew renews, announces what is due, and tells how long until something is.
func (h *host) renew(ctx context.Context) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	lost, err := h.holder.Renew(ctx)
	if len(lost) > 0 {
		h.log.Warn("held addresses have gone before they were renewed", "addresses", lost)
	}
	if err != nil && ctx.Err() == nil {
		h.log.Warn("held addresses could not be renewed", "error", err)
	}
	next, err := h.holder.Repeat(time.Now())
	if err != nil {
		h.log.Warn("held addresses could not be announced", "error", err)
	}
	if next.IsZero() {
		return time.Minute // the loop pokes when there is something
	}
	return max(time.Until(next), 0)
}
