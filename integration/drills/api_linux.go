package drills

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"tunneldirector/director/api"
	"tunneldirector/director/drill"
)

// patience is how long one director may take to answer an operator.
const patience = 5 * time.Second

// drainRate is the operator's: all that a real server of a lab has is moved within a second or two.
const drainRate = "20/s"

func (w *World) drain(ctx context.Context, realServer string) (undo, error) {
	undrain := func(ctx context.Context) error {
		return w.ask(ctx, func(ctx context.Context, c *api.Client) error {
			_, err := c.Undrain(ctx, realServer)
			return err
		})
	}
	return undrain, w.ask(ctx, func(ctx context.Context, c *api.Client) error {
		_, err := c.Drain(ctx, realServer, api.DrainRequest{Rate: drainRate})
		return err
	})
}

// sendEmpty sends an empty table in the name of who pushed all tunnels. That nothing is deleted is a refusal, too.
func (w *World) sendEmpty(ctx context.Context) (undo, error) {
	return w.push, w.ask(ctx, func(ctx context.Context, c *api.Client) error {
		sum, err := c.PutSet(ctx, api.SetOptions{}, func(func(api.Tunnel, error) bool) {}, nil)
		if err == nil && sum.Deleted == 0 {
			err = fmt.Errorf("%w: nothing is deleted, %d tunnels are kept", drill.ErrRefused, sum.Kept)
		}
		return err
	})
}

// ask asks one director after another until one answers.
func (w *World) ask(ctx context.Context, question func(context.Context, *api.Client) error) error {
	var errs []error
	for _, d := range w.directors {
		limited, cancel := context.WithTimeout(ctx, patience)
		err := question(limited, d.Client)
		cancel()
		if err == nil {
			return nil
		}
		if err = refusal(err); errors.Is(err, drill.ErrRefused) {
			return err
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// refusal tells what was refused from what failed.
func refusal(err error) error {
	var p *api.Problem
	if errors.As(err, &p) && p.Status >= http.StatusBadRequest && p.Status < http.StatusInternalServerError {
		return fmt.Errorf("%w: %w", drill.ErrRefused, err)
	}
	return err
}
