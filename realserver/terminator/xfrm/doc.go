// Package xfrm is the terminator that any IKE daemon, or none, makes of the kernel: its IPsec security associations, read by netlink.
//
// An SA to the VIP and one from it, between the same two addresses and, in UDP, ports, are a tunnel; its peer is called by the
// site's endpoint, since the kernel knows no other name. What is behind it is what the policies lead to it.
//
// Nothing is changed: who holds the keys can begin and end tunnels, and a daemon whose SAs another deletes goes on as if it had them
// and tells nobody. So Adopt, Release and Accept are for packages that know the daemon; this one tells the truth about packets,
// also when the daemon is dead (Carries).
package xfrm
