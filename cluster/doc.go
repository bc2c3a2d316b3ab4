// Package cluster says who is alive among the directors, who of them assigns, and who owns a virtual IP: values, and pure
// rules over them. The same values give the same answer on every director.
//
// What a director says of itself goes to all others in each Beat, ten times a second. What a director knows of all is a View.
// The package does no I/O: gossip finds the Members, beat carries the Beats, replica the records.
package cluster
