//go:build !linux

package xfrm

import (
	"context"
	"errors"
)

func (d *Driver) states(context.Context) ([]state, error) { return nil, errors.ErrUnsupported }

func (d *Driver) policies(context.Context) ([]policy, error) { return nil, errors.ErrUnsupported }

// Watch is for Linux only.
func (d *Driver) Watch(context.Context, chan<- struct{}) error { return errors.ErrUnsupported }
