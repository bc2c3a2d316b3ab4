// Package daemon runs `director run` on the director of a lab and talks to it as an operator and as a network management
// system do: by its command line, inside the director's machine, and by HTTP on its unix socket.
//
// A Daemon owns the process and the files that it is started with. It must not know the director's inside: all that it
// says or checks comes by HTTP, and all that it counts is counted elsewhere, at the lab's real servers.
package daemon
