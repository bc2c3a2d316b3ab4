// Director is the daemon of a load balancer for tunnel termination, and its command line.
//
// `director run` is the daemon; every other command asks a running director over its API, by default through the unix
// socket of this host. This package holds flags, wiring and exit codes, one file per noun: it picks the concrete drivers,
// and decides nothing about tunnels. The commands own no state but what they print.
package main
