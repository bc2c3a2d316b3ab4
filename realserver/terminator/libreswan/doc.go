// Package libreswan is the terminator libreswan: its IKE daemon pluto, asked by its program whack.
//
// What whack and pluto say to each other is private to one version of both, so the program is run: it is the only interface that is
// kept. Its arguments are names and addresses; it never sees a secret.
//
// Established is a Child SA that owns the policy of a connection. A tunnel's peer is called by the name of the connection and the
// site's identity. A connection to any address can be begun towards one that is known; towards a port of a NAT box it
// cannot. The kernel carries the packets: what it tells of changes, and what it carries when pluto is dead, is xfrm's to say.
package libreswan
