// Package agent is what a director and the agent on a host of real servers say to each other.
//
// The agent dials. The stream is TLS 1.3, both sides certified by the cluster's authority (cluster/ca); it carries frames: a
// length of four bytes, big-endian, and so many bytes of CBOR, one Message (Conn). An agent's certificate names its host, and the agent may
// speak for the real servers whose record names that host, for no other.
//
//	agent                                         director
//	Hello ───────────────────────────────────────▶
//	      ◀─────────────────────────────────────── Welcome   what it may speak for, and up to where its reports are known
//	Report, Report, ... ─────────────────────────▶           tunnels: all of them, or what changed since
//	      ◀─────────────────────────────────────── Known
//	Status (each second, and at a change) ───────▶           health and load
//	      ◀─────────────────────────────────────── Order     adopt, release, accept; faults, for drills
//	      ◀─────────────────────────────────────── Verdict   what it makes of a real server, for people
//	Progress ────────────────────────────────────▶
//
// Silence of one side for longer than Patience ends the stream; each side sends something within a third of it. An agent that
// is gone proves nothing about its real servers: then the director checks them as if they had none.
//
// On the data path the director asks the agent by Probe, one datagram to the VIP through the real server, as a tunnel's packet goes.
//
// The package knows formats and bounds. What is reported belongs to director/observe, what is decided to the director.
package agent
