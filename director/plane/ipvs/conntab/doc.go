// Package conntab reads IPVS's connection table from /proc/net/ip_vs_conn_sync, which, unlike ip_vs_conn, tells where an entry
// came from.
//
// It costs more than it looks. The kernel gives a page at a time, about 50 entries, whatever the size of the read; and before
// Linux 6.14 (commit 178883fd039d) each of these reads walks the table from its start. So there the cost grows with the
// square of the table: 5,000 entries took 0.03 s, 20,000 took 0.5 s and 100,000 half a minute (6.1, emulated). It is for
// people who ask, never for a timer.
//
// It is exact only of a table at rest. The kernel goes on by counting, over the entries of all network namespaces: each that
// comes or goes before the place of the last read makes one later be seen twice, or missed; while thousands go, thousands are.
// What matters is to be read again.
package conntab
