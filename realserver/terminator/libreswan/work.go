package libreswan

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"tunneldirector/realserver/terminator"
)

// Work is pluto's process, one thread of which does IKE, and the ports of IKE. Packets are the kernel's.
func (d *Driver) Work(context.Context) (terminator.Work, error) {
	name := filepath.Join(d.o.RunDir, "pluto.pid")
	b, err := os.ReadFile(name)
	if err != nil {
		return terminator.Work{}, fmt.Errorf("find pluto's process: %w: %w", terminator.ErrGone, err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return terminator.Work{}, fmt.Errorf("find pluto's process: %s: %w", name, err)
	}
	// The file of one that was killed stays.
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil || strings.TrimSpace(string(comm)) != "pluto" {
		return terminator.Work{}, fmt.Errorf("find pluto's process: %d is none: %w", pid, terminator.ErrGone)
	}
	w := terminator.Work{Processes: []int{pid}}
	for _, any := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		w.Sockets = append(w.Sockets, netip.AddrPortFrom(any, 500), netip.AddrPortFrom(any, 4500))
	}
	return w, nil
}
