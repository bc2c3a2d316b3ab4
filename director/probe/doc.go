// Package probe measures real servers on the data path, where no agent answers for them, and the director's own links.
//
// In each round (every Interval) the prober asks a real server for its address by ARP or neighbour solicitation and, if its
// Check names a port, sends a packet to each VIP's port through that real server: Ethernet destination its MAC, IP
// destination the VIP, or the same inside IPIP under method tunnel. What counts:
//
//	ARP, neighbour solicitation (ICMP echo where a router is between)   silence: missed
//	TCP   SYN-ACK: answered (and reset at once)   RST: closed           silence: silent
//	UDP   any answer from the VIP's port: answered; port unreachable: closed, until the port comes back (below)
//	      silence: no evidence, as WireGuard and most others never answer a stranger; but of a port that has
//	      answered this prober before, silent
//	      port 500 and 4500 are asked in IKE (a header of major version 3, answered by INVALID_MAJOR_VERSION,
//	      RFC 7296 2.5); others get an empty datagram
//
// An answer that comes after Timeout counts for the round in which it comes: delay is no death. A real server that is starved,
// or behind a link that is, answers late rather than never; State.Slow says so. Its death is found so much later.
//
// Missed and closed are fast evidence (DeadAfter rounds); silent is slow (SilentAfter), since a terminator in a storm of
// handshakes may not get round to answering while it still carries tunnels.
//
// Linux limits port unreachable to one a second per asker, after six at once, for all terminators on a host together. So a
// UDP port that never answers is believed to be open only once it was asked, and its host was there, for firstSilence
// without a port unreachable for any port on that host (until then rounds are void: a first verdict takes 2.5 s), and one
// that was closed after returnSilence. With n closed ports on a host, those of agents included, at intervals up to 1 s, a terminator that
// returns is alive again within 2 s x n + 6 s, though it answers nobody; one that is closed again within a minute of such
// a return is left alone for 4 s first, and twice as long each time, up to 64 s. If more than six ports of a host close at
// once, the seventh and each further one is known to be closed a second later. How it is done: udpPort.
//
// A real server may have an agent (Target.Agent). Then each round also asks it, by a datagram to its port at each VIP, as the
// packets of tunnels go, with a nonce of its own (agent.AppendProbe). What its answer is worth, VIP by VIP:
//
//	working, headless        alive, though the terminator's port is silent, or ARP where the agent was asked the same way; a closed port
//	                         is what the data path says, and stands. Headless is alive, too: State.Agent says it
//	dead                     dead after two rounds
//	unknown                  nothing good is concluded
//	another real server's,   as if there were none, and why is told: State.Agent.Trouble, and the cause if it comes to that
//	or "came the wrong way"
//	none, stream down        the check without an agent, above, counts alone: an agent that is restarted, upgraded or killed moves nothing.
//	                         What it said last holds for 10 s: a silent port proves nothing then, nor is one alive again that it found dead
//	none, stream up          for 5 s after it came up nothing good is concluded. Then:
//	    answered before      missed, for all rounds since, once the agent was heard on its stream after they began (Config.Heard) and left
//	                         one more unanswered: the control path is up, the data path is dead. An agent that is not heard either may
//	                         hang, and counts as one whose stream is down; nor is one lost that says on its stream that its probes are
//	                         flooded (Config.Flooded)
//	    never answered       the check without an agent counts alone, and Trouble tells: a filter that never let probes through moves no tunnel
//	port unreachable         as one whose stream is down: the data path is there, the agent is not
//
// An agent's answer counts up to eight rounds after its question. The round trip of answers, or without an agent of what
// else answers, against its lowest of the last ten minutes tells State.Slow (delay): to be taken for full, never for dead.
//
// Everything goes through one AF_PACKET socket per interface, around the director's own stack, which holds the VIP itself and
// would take the answers for martians. A classic BPF filter lets answers to probes in and nothing else, so that user traffic costs nothing but the filter. Answers are to
// the director's own address on the interface: the XDP plane passes those up (PassLocal), so that they reach the socket; the
// stack then drops them, since their source is an address of its own. Source ports are PortBase plus the real server's index.
//
// The package measures; it owns its sockets and the thresholds, no verdict about a record. Latching death, the panic rule
// and what follows are the director's loop's. It must not know tunnels, pins or the table.
package probe
