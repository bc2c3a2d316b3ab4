// Command demo shows the director's main job on real packets, on one machine, in about a minute: `make demo`.
//
// It builds a network of namespaces (integration/lab): sites, a director, three real servers, a target host. Sites and
// real servers speak WireGuard. It starts `director run`, pushes tunnels by HTTP, pings both ways, kills a real server,
// restarts the director under traffic, and holds each promise against what was counted at the real servers. What it found
// goes to standard output, for people, and to build/demo.json, for programs.
//
// Exit codes: 0 all is as promised; 1 something is not, the reason is printed first in the summary; 2 it cannot run
// here, and what it needs is printed; 130 interrupted.
//
// It leaves the machine as it found it, and checks that.
package main
