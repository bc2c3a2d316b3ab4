package gate

import (
	"errors"
	"fmt"
	"io/fs"
	"math/bits"

	"tunneldirector/director/vip/sysctl"
)

const (
	tableBits    = "sys/module/ip_vs/parameters/conn_tab_bits"
	maxTableBits = 27 // of 64-bit kernels since 6.5; 20 before

	// Debian's own default is 4,096 buckets.
	crowded = 2 // entries a bucket
)

// Check reads the settings of IPVS that matter to this plane below root, the file system's root as seen in the node's network
// namespace, and changes none; IPVS must be loaded. entries is how many connection entries are wanted. An error means that
// some could not be read; the findings about the others are there.
//
// Looked at in the kernel (6.1) and left out: expire_nodest_conn (entries of a removed destination go earlier; nobody misses
// them), expire_quiescent_template, sync_* (there are no templates, and no primary daemon), sloppy_*, secure_tcp,
// conn_reuse_mode (TCP, SCTP), ignore_tunneled (protocols that IPVS does not know never get there), schedule_icmp and
// drop_packet (only packets of endpoints without an entry).
func Check(root fs.FS, entries int) ([]sysctl.Finding, error) {
	c := &checker{Reader: sysctl.Reader{FS: root}}
	c.zero("backup_only", "IPVS forwards nothing while its backup daemon runs, and it is by that daemon that entries get there")
	c.zero("drop_entry", "the kernel deletes entries of quiet tunnels at random, at once or when memory is short, "+
		"and these tunnels are cut off until their entries are sent again")
	c.zero("conntrack", "each entry keeps a connection tracking entry, which the plane does not need: memory, time a packet, and a second table that may be full")
	if n := c.Optional("proc/sys/net/netfilter/nf_conntrack_count"); n > 0 {
		c.found = append(c.found, sysctl.Finding{What: fmt.Sprintf("connections are tracked here (nf_conntrack_count = %d)", n),
			Why:    "each packet to a VIP costs an entry that is made and thrown away, and is dropped when that table is full",
			Remedy: "find what tracks (conntrack -L, nft list ruleset), or leave the VIPs out: a rule `ip daddr VIP notrack` in a chain of hook prerouting, priority raw"})
	}
	c.table(entries)
	return c.found, errors.Join(c.Errs...)
}

type checker struct {
	sysctl.Reader
	found []sysctl.Finding
}

// zero finds what is to be 0. A kernel without the setting does not do it.
func (c *checker) zero(setting, why string) {
	s := sysctl.Setting{Path: "net/ipv4/vs/" + setting}
	if n := c.Optional("proc/sys/" + s.Path); n > 0 {
		c.found = append(c.found, sysctl.Finding{What: fmt.Sprintf("%s = %d", s.Name(), n), Why: why, Settings: []sysctl.Setting{s}})
	}
}

// table: the hash table's size is fixed when the module is loaded; newer kernels (7.1) let it grow, up to the same number.
func (c *checker) table(entries int) {
	have := c.Int(tableBits)
	if have < 0 || entries <= crowded<<have {
		return
	}
	want := min(bits.Len(uint(entries-1)), maxTableBits)
	c.found = append(c.found, sysctl.Finding{What: fmt.Sprintf("IPVS's connection table has 2^%d buckets (ip_vs.conn_tab_bits) for %d entries", have, entries),
		Why: fmt.Sprintf("a packet's lookup walks %d entries, each a miss of the cache", entries>>have),
		Remedy: fmt.Sprintf("echo 'options ip_vs conn_tab_bits=%d' > /etc/modprobe.d/ip_vs.conf (at most 20 before Linux 6.5; %d KiB of memory), and start the machine again", want,
			8<<want>>10)})
}
