package plane

import (
	"context"
	"time"

	"tunneldirector/affinity"
)

// What a Plane may be beside a Plane. Who uses one asks by a type assertion.

// A Counter is a Plane that counts.
type Counter interface {
	// Stats reads all counters.
	Stats() (Stats, error)
}

// An Observer is a Counter that can also tell when a packet last came through a pin.
type Observer interface {
	Counter
	// Seen tells when a packet last came through one pin (with 10 s precision); the zero time: never.
	Seen(k EndpointKey) (time.Time, error)
	// LastSeen calls f for each pin through which a packet came since the given time (with 10 s precision), until f
	// returns false.
	LastSeen(ctx context.Context, since time.Time, f func(EndpointKey, time.Time) bool) error
}

// A Checker is a Plane that cannot do all that a configuration may ask of it.
type Checker interface {
	// Check tells what of c the plane cannot do, all of it. It touches nothing, and may be called from any goroutine. A
	// configuration for which it tells nothing is one that Apply and Replace can take.
	Check(c Config) []Inability
}

// An Inability is one thing that a plane cannot do. The fault's field is one of the object's, as the API names it; its
// remedy names a plane that can, or the setting to change.
type Inability struct {
	Kind  string // service, realserver or tenant
	Name  string
	Fault affinity.Fault
}

// An Auditor is a Plane that can compare all that it has been told with what the kernel holds, entry by entry. That may
// take minutes for a large table, and disturbs nothing.
type Auditor interface {
	// Audit calls f for each difference, until f returns false.
	Audit(ctx context.Context, f func(Difference) bool) (Audited, error)
}

// A Difference is a key that the kernel treats differently than the table says. Key is in the words of people, as are the
// two sides: a real server's name with its address, a drop, or "nothing".
type Difference struct {
	Key        string
	Want, Have string
}

// Audited sums an audit up.
type Audited struct {
	Equal, Missing, Other, Surplus uint64 // as wanted; not in the kernel; there, but different; there, but not wanted
}

// A Pairer is a Plane in which addresses stand for pairs of real servers: tools that look into the kernel show those.
type Pairer interface {
	// Pairs are those in use, in order of their addresses.
	Pairs() []Pair
}

// A Pair tells in words what such an address means.
type Pair struct {
	Addr4, Addr6    string
	Primary, Backup string // names of real servers
	Now             string // who has its packets; "": nobody is alive
}
