package drills

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// A disk is a directory that is a file system of its own, in memory. Only what is written to it takes memory.
type disk string

// diskSize leaves room for more than the 256 MiB that a store keeps free, and diskRest is what a full one has left.
const (
	diskSize = 768 << 20
	diskRest = 1 << 20
)

func (d disk) mount() error {
	if err := unix.Mount("tmpfs", string(d), "tmpfs", 0, size(diskSize)); err != nil {
		return fmt.Errorf("mount a file system in memory at %s: %w", d, err)
	}
	return nil
}

func (d disk) unmount() error {
	if err := unix.Unmount(string(d), unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount %s: %w", d, err)
	}
	return nil
}

// fill makes it as small as what is in it: as full as a file that takes the rest would, which would take memory.
func (d disk) fill() error {
	var err error
	for range 5 { // it is written to, and may not become smaller than what is in it
		var st unix.Statfs_t
		if err = unix.Statfs(string(d), &st); err != nil {
			break
		}
		if err = d.resize(int64(st.Blocks-st.Bfree)*st.Bsize + diskRest); !errors.Is(err, unix.EINVAL) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("fill %s: %w", d, err)
	}
	return nil
}

// empty makes it as large as it was.
func (d disk) empty() error {
	if err := d.resize(diskSize); err != nil {
		return fmt.Errorf("make room on %s: %w", d, err)
	}
	return nil
}

func (d disk) resize(n int64) error {
	return unix.Mount("tmpfs", string(d), "tmpfs", unix.MS_REMOUNT, size(n))
}

func size(n int64) string { return fmt.Sprintf("size=%d", n) }
