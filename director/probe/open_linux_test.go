package probe

import (
	"errors"
	"log/slog"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"tunneldirector/director/plane"
)

func TestOpenWithoutCapability(t *testing.T) {
	runtime.LockOSThread() // never unlocked: the thread, and what it lacks, ends with the test
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	must(t, unix.Capget(&hdr, &sets[0]))
	sets[0].Effective &^= 1 << unix.CAP_NET_RAW
	must(t, unix.Capset(&hdr, &sets[0]))
	_, err := Open(Config{}, slog.New(slog.DiscardHandler))
	if !errors.Is(err, plane.ErrUnsupported) || !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "CAP_NET_RAW") {
		t.Errorf("opened without CAP_NET_RAW: %v", err)
	}
}
