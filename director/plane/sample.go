package plane

import (
	"context"
	"net/netip"
	"time"

	"tunneldirector/affinity"
)

// A Sampler is a Plane that shows packets to people: a few of each kind that it drops, always, and for a while those that
// somebody watches for. Its methods may be called from any goroutine.
type Sampler interface {
	// Samples calls f for each packet that is shown, from one goroutine, until ctx ends, which is no error. One caller at a time. What
	// is dropped while nobody calls is kept, up to some hundred samples, and shown to the next caller.
	Samples(ctx context.Context, f func(Sample)) error
	// Watch has packets that fit shown, too, whatever becomes of them, until the time given; a time that is over ends it. It takes the
	// place of the watch before.
	Watch(w Watch, until time.Time) error
	// Drops counts what was dropped, by reason, since the maps were made. It is cheap enough for every second.
	Drops() (map[Reason]uint64, error)
}

// SampleBytes is how much of a packet is shown at most, from its Ethernet header on.
const SampleBytes = 128

// A Sample is the beginning of a packet as it came in, and what became of it.
type Sample struct {
	At         time.Time
	Interface  string // that it came in by; "": it has gone
	Reason     Reason // None: forwarded
	Side       Side   // NoSide: it was dropped before that was known
	Service    uint16 // number; 0: none was found
	Tenant     uint16 // number; on the subnet side
	RealServer affinity.Index
	Length     int    // of the frame, bytes
	Head       []byte // its first SampleBytes, from the Ethernet header on; the receiver owns it
	Watched    bool   // it fits the watch
	// Foretold: the plane does not know what became of the packet; what stands here is what its Lookup says.
	Foretold bool
}

// A Watch says which packets are to be shown, by their outermost IP header. What is zero fits all.
type Watch struct {
	Src, Dst         netip.Prefix // of one family, where both are valid
	Proto            uint8
	SrcPort, DstPort uint16 // packets that carry ports, and these
}
