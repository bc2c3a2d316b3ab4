// Package place chooses the real servers of a group: a primary, and a backup on another host (in another zone where
// there is one), so spread that the death of any one host loads the others evenly and within their capacity.
//
// It is pure: the same View and Demand give the same Choice, on every director. It owns no state and does not know
// tables, clocks, protocols or why a group has to be placed; the caller passes only real servers that can serve it.
//
// The order of wishes, each of which yields only to those before it:
//
//  1. never an excluded, dead or drained real server, never above its capacity in tunnels
//  2. apart from the groups that Demand names: another zone, else host, else real server
//  3. N+1: the chosen one keeps room for what it would inherit, and some other host has room to inherit this group
//  4. the policy: the least load over weight, or the next one round the ring
//
// Where wish 3 cannot be had, one that would not break the others' protection is preferred to one that would.
package place
