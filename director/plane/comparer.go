package plane

import "context"

// A Comparer is a Plane whose Lookup answers from what the kernel was told, and which can read back what the kernel holds for
// one packet.
type Comparer interface {
	// Compare calls f for each entry that the packet can meet and that the kernel treats differently than the table says. It may take
	// long; ctx ends it, with an error. It may be called from any goroutine.
	Compare(ctx context.Context, p Packet, f func(Difference)) error
}
