// Package observe keeps what the agents on real servers say: which tunnels are established where, how the terminators are, and how far
// orders have got.
//
// A Book is all of it, in memory: what is lost by a director's restart is reported again. It owns the agents' streams. It must not
// know what is wanted: whether a tunnel is at the right place, and what to do about it, is the director's to say.
//
// What was established is remembered for a while after it ended, and for as long as its agent is silent: the successor of a dead
// real server needs to know where the site was (Sighting.Gone).
package observe
