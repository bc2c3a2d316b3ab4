package affinity

import (
	"fmt"
	"time"
)

// Format is the version of the records' encoding that this program writes. It reads this one and none newer.
const Format = 1

// A Stamp is a hybrid logical clock reading: 48 bits of Unix milliseconds, then 16 bits of a logical counter.
// Stamps order writes across directors; they are not durations.
type Stamp uint64

// NewStamp is the stamp with wall time t and logical counter n.
func NewStamp(t time.Time, n uint16) Stamp { return Stamp(uint64(t.UnixMilli())<<16 | uint64(n)) }

// Time is the wall part, to the millisecond.
func (s Stamp) Time() time.Time { return time.UnixMilli(int64(s >> 16)).UTC() }

func (s Stamp) String() string {
	return fmt.Sprintf("%s/%d", s.Time().Format("2006-01-02T15:04:05.000Z"), uint16(s))
}

// A Header is what replication needs to know of any record.
type Header struct {
	_       struct{} `cbor:",toarray"`
	Stamp   Stamp    // when it was written; last writer wins for intent
	Origin  string   // the director that wrote it
	Epoch   uint32   // of a placement record: rises with each write
	Deleted bool     // a tombstone
	Format  uint8    // encoding version
}

// Newer tells whether the version a of a record of this kind comes after b: the same total order on every director. Placement
// is ordered by epoch first, everything else by stamp.
func (k Kind) Newer(a, b Header) bool {
	if (k == KindPin || k == KindLife) && a.Epoch != b.Epoch {
		return a.Epoch > b.Epoch
	}
	if a.Stamp != b.Stamp {
		return a.Stamp > b.Stamp
	}
	return a.Origin > b.Origin
}

// A Kind says what a record is about. The values are stored on disk: never renumber.
type Kind byte

// The kinds of records.
const (
	KindService    Kind = 's'
	KindTenant     Kind = 'n'
	KindRealServer Kind = 'r'
	KindLife       Kind = 'l'
	KindTunnel     Kind = 't'
	KindPin        Kind = 'p'
	KindFreeze     Kind = 'f'
)

func (k Kind) String() string {
	switch k {
	case KindService:
		return "service"
	case KindTenant:
		return "tenant"
	case KindRealServer:
		return "real server"
	case KindLife:
		return "real-server life"
	case KindTunnel:
		return "tunnel"
	case KindPin:
		return "pin"
	case KindFreeze:
		return "freeze"
	}
	return fmt.Sprintf("record kind %q", byte(k))
}
