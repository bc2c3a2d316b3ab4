// Package gossip finds the other directors and says who they are: cluster.Members carried by hashicorp/memberlist, always
// encrypted, with a keyring that all directors share. It is never asked who is alive enough to own an address (package beat
// is), and carries nothing of the table.
//
// memberlist owns its state and its goroutines. Its callbacks run under its lock: they copy, poke and return. Who gossips with
// another label, which is the cluster's name, or another key is heard by nobody, and said in Problems.
package gossip
