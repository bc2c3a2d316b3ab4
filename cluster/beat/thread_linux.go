package beat

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// raise puts the calling thread before all that are scheduled normally. It takes CAP_SYS_NICE.
func raise() error {
	err := unix.SchedSetAttr(0, &unix.SchedAttr{
		Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1, Flags: unix.SCHED_FLAG_RESET_ON_FORK,
	}, 0)
	if err != nil {
		return fmt.Errorf("ask for SCHED_FIFO: %w", err)
	}
	return nil
}

// sleep sleeps in the kernel. A timer of the runtime would be served by another thread, which may have to wait for a processor.
func sleep(d time.Duration) {
	for end := time.Now().Add(d); d > 0; d = time.Until(end) {
		ts := unix.NsecToTimespec(int64(d))
		// A signal cuts it short; then the rest is slept.
		if err := unix.ClockNanosleep(unix.CLOCK_MONOTONIC, 0, &ts, nil); err != nil && err != unix.EINTR {
			time.Sleep(d)
		}
	}
}
