// Package ruleset keeps one nftables table in the kernel as it is declared: sets, counters, chains and rules by comparison
// with what is there, the sets' elements by difference.
//
// A table outlives the daemon. Its rules carry the layout's name, so that the table of an older program, or one that
// somebody has edited, is noticed and made anew in one transaction: at no time is there none. What is not in the table is
// never touched.
//
// The package owns no table by itself and must not know what the rules are for. It exists on Linux only.
package ruleset
