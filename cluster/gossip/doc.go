// Package gossip finds the other directors and says who they are: cluster.Members carried by hashicorp/memberlist, always
// encrypted, with a keyring that all directors share. It is never asked who is alive enough to own an address (package beat
// is), and carries nothing of the table.
package gossip
