// Package answer answers the directors' probes on the data path: datagrams to a VIP that come as a tunnel's packets do.
//
// A Responder owns a UDP socket for each VIP, bound to it alone, so that answers come from the VIP. It knows nothing of
// terminators: what it says is what it was last told by Set, and after Stale without being told it says "unknown", so that an
// agent that hangs half does not praise its terminator for ever.
//
// Nobody is authenticated, so this is what protects it:
//
//	the kernel drops, by a filter on the socket, what is not a question by its length, its first bytes and its TTL of 255: no
//	router has had it, so it comes from a machine on the segment, or through IPIP from whoever may send that, and from no site
//	an answer is as long as its question, goes where that came from, and says what the directors have to know: health, full,
//	closed, the number of tunnels and the real server's name
//	no more than Options.Rate questions are read in a second, of all VIPs together; the kernel drops the others, unread,
//	and while it does Flooded says so, since a director's question may be among them: to be told on the control stream
package answer
