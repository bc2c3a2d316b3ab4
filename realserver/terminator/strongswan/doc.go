// Package strongswan is the terminator strongSwan: its IKE daemon charon, asked by VICI, its control protocol.
//
// Established is an IKE SA that is established, with a CHILD_SA that is installed. A tunnel's peer is called by the name of the
// connection and the identity that the site proved, which is the same on every terminator with the same configuration.
//
// A terminator's connections name no remote address and charon begins none of them. Adopt loads a copy of the tunnel's
// connection with the site's address, begins it, and unloads it at once: what was begun goes on without. Copies are called
// "td-adopt-...", and their tunnels as those of the connection. The secrets stay where they are: charon finds them by identity.
//
// VICI is spoken here rather than by a library, for bounds: a socket that hangs, talks nonsense or too much costs neither a
// goroutine nor memory, and 10,000 SAs are read one by one.
package strongswan
