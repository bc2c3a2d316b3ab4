package route

import (
	"errors"
	"fmt"
	"io/fs"

	"tunneldirector/director/vip/sysctl"
)

// Check reads the setting that matters to nexthop objects below root, the file system's root as seen in the node's network
// namespace, and changes none. routes is how many routes are wanted. An error means that it could not be read.
//
// Looked at in the kernel (6.1) and left out: net.ipv4.fib_sync_mem (a larger one makes the first 100,000 routes two thirds as
// long; nothing else), net.ipv6.route.max_size (the kernel's copies of IPv6 routes belong to nexthop objects, of which there
// are few; TestManyDestinations), fib_multipath_hash_policy (a group has one bucket). Forwarding and rp_filter are
// looked at by package director/vip.
func Check(root fs.FS, routes int) ([]sysctl.Finding, error) {
	const few = 10_000 // 15 ms
	r := sysctl.Reader{FS: root}
	s := sysctl.Setting{Path: "net/ipv4/nexthop_compat_mode"}
	if r.Int("proc/sys/"+s.Path) != 1 || routes < few {
		return nil, errors.Join(r.Errs...)
	}
	return []sysctl.Finding{{What: fmt.Sprintf("%s = 1 with %d routes over nexthop objects", s.Name(), routes),
		Why: "whenever a real server dies or comes back the kernel announces every route that leads to it, to whoever listens, " +
			"and does nothing else to its network settings meanwhile: about a second in a million, on a fast machine",
		Settings: []sysctl.Setting{s}}}, nil
}
