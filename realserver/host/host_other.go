//go:build !linux

package host

import (
	"context"
	"errors"
)

// Plan is Linux's.
func (h *Host) Plan(context.Context) ([]Change, error) { return nil, errors.ErrUnsupported }

// Apply is Linux's.
func (h *Host) Apply(context.Context) ([]Change, error) { return nil, errors.ErrUnsupported }

// Revert is Linux's.
func (h *Host) Revert(context.Context) ([]Change, error) { return nil, errors.ErrUnsupported }

// Doctor is Linux's.
func (h *Host) Doctor(context.Context) ([]Finding, error) { return nil, errors.ErrUnsupported }
