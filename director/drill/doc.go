// Package drill rehearses failures: it makes one on purpose, sends packets through a sample of tunnels all along, and says what it cost.
//
//	drill (YAML) ─▶ Run: check what it needs ─▶ probe the sample ─▶ steps, each fault with an expiry ─▶ undo ─▶ settle ─▶ Result
//	                        │ aborts at once when an abort condition holds; undoes every fault, however it ends
//	                        ▼
//	                      World: a live cluster by its API, or a lab on one machine
//
// Run owns the order of things and the judgement, a World owns how a fault is made and how packets are sent. Each Fault carries how long
// it may last: whoever carries it out undoes it then by itself, also when Run, its machine or the way to it is gone (director/drill/fault).
//
// The outage of a tunnel is the longest time from a packet that came back to the next one that did, less the interval at which they are
// sent: a round trip from the target's side through the tunnel and back goes both ways. The package does no I/O but that of Store.
package drill
