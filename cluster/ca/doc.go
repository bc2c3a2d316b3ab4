// Package ca is the cluster's certificate authority, and TLS between those whom it certified.
//
// One authority (CA) stands for one cluster. It certifies directors and agents by name; who somebody is stands in one place of
// a certificate, a URI: tunneldirector://CLUSTER/ROLE/NAME. No host names or addresses are in it, so a machine may be
// renumbered. Keys are Ed25519, TLS is 1.3 alone, and both ends prove who they are:
//
//	init:   New ─▶ CA.Save         ca.crt, ca.key: kept where only who issues can read it
//	issue:  Read ─▶ CA.Issue ─▶ Issued.Save    ROLE-NAME.crt, ROLE-NAME.key, ca.crt: go to that machine
//	use:    Open ─▶ Credential.ServerConfig, ClientConfig ─▶ Peer
//	renew:  Renewer ─▶ Credential.Renew ─▶ a director with an authority: ServeRenewal ─▶ CA.Sign ─▶ new files
//
// To renew is to put new files in the place of the old ones: they are read at each handshake. A Renewer does so by itself at
// two thirds of a certificate's life, with a new key, which never leaves its machine; who asks is believed by the certificate
// that it still has. Streams that are up stay up,
// also past the end of a certificate; it is asked for when one begins. There is no list of revoked certificates: who
// was certified by mistake is shut out by a new authority, whose certificate may stand in ca.crt beside the old one for a while.
//
// The package owns the files that it is told to write and nothing else, and knows nothing of what is said over its connections.
package ca
