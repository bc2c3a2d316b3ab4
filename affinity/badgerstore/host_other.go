//go:build !linux

package badgerstore

import (
	"errors"
	"fmt"
	"io/fs"
)

type hostFS struct{}

func (hostFS) Free(string) (int64, error) {
	return 0, fmt.Errorf("free space: %w", errors.ErrUnsupported)
}

func reserve(string, int64) error { return fmt.Errorf("reserve: %w", errors.ErrUnsupported) }

func blocks(info fs.FileInfo) int64 { return info.Size() }

func mayUse(string) error { return nil }

type dirLock struct{}

func lockDir(string) (*dirLock, error) { return nil, fmt.Errorf("lock: %w", errors.ErrUnsupported) }

func (*dirLock) release() error { return nil }
