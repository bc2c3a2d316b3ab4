// Package dump reads lists out of the kernel that may change while they are read. The kernel says so (NLM_F_DUMP_INTR,
// net/netlink/af_netlink.c), and what was read may lack something or have it twice; addresses and links change most while a
// machine starts, which is when daemons start.
package dump
