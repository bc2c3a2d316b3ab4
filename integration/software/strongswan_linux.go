package software

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"tunneldirector/integration/guest/strongswan"
	"tunneldirector/integration/vm"
)

// StrongSwan gets strongSwan that carries ESP itself, in UDP, by TUN devices.
func StrongSwan(ctx context.Context, dir string, log *slog.Logger) (strongswan.Software, error) {
	s := strongswan.Software{Userspace: true}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		return s, fmt.Errorf("TUN: %w", err)
	}
	all, err := get(ctx, dir, log, vm.Software)
	for _, p := range all {
		if strings.Contains(p.Name, "strongswan") || strings.Contains(p.Name, "charon") {
			s.Packages = append(s.Packages, p.Dir)
		}
	}
	return s, err
}
