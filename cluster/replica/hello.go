package replica

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/fxamacker/cbor/v2"

	"tunneldirector/affinity"
)

// The protocols that this program speaks. Two directors speak the highest that both know.
const (
	minProtocol = 1
	maxProtocol = 1
)

// Hello and Refused are CBOR with integer keys, so that any version can read any other's: unknown keys are skipped.
type (
	// A hello is the first message, both ways.
	hello struct {
		Min      uint8  `cbor:"1,keyasint"` // protocols
		Max      uint8  `cbor:"2,keyasint"`
		Record   uint8  `cbor:"3,keyasint"` // affinity.Format
		Name     string `cbor:"4,keyasint"`
		Store    string `cbor:"5,keyasint"`
		Boot     uint64 `cbor:"6,keyasint"` // how many times the store was opened
		Root     uint64 `cbor:"7,keyasint"` // of the digest
		Records  uint64 `cbor:"8,keyasint"`
		Instance string `cbor:"9,keyasint"` // of this run of the program: random
	}
	// A refused is the last message, and says why.
	refused struct {
		Why     string `cbor:"1,keyasint"`
		OldCopy bool   `cbor:"2,keyasint,omitempty"` // the receiver's store is older than what it was:
		Store   string `cbor:"3,keyasint,omitempty"` // this one,
		Boot    uint64 `cbor:"4,keyasint,omitempty"` // which had been opened so many times
	}
)

func (hello) kind() kind   { return kindHello }
func (refused) kind() kind { return kindRefused }

func (m hello) append(b []byte) []byte   { return appendCBOR(b, m) }
func (m refused) append(b []byte) []byte { return appendCBOR(b, m) }

func appendCBOR(b []byte, m any) []byte {
	packed, err := cbor.Marshal(m)
	if err != nil {
		panic(err) // plain structs of numbers and text
	}
	return append(b, packed...)
}

var decoder = func() cbor.DecMode {
	m, err := cbor.DecOptions{DupMapKey: cbor.DupMapKeyEnforcedAPF, MaxNestedLevels: 4, MaxArrayElements: 16, MaxMapPairs: 64,
		IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden}.DecMode()
	if err != nil {
		panic(err) // constant options
	}
	return m
}()

func decodeHello(body []byte) (message, error) {
	var m hello
	if err := decoder.Unmarshal(body, &m); err != nil {
		return nil, fmt.Errorf("hello: %w: %v", errGarbage, err)
	}
	if m.Name == "" || !text(m.Name) || !text(m.Store) || !text(m.Instance) || m.Max < m.Min {
		return nil, fmt.Errorf("hello: %w", errGarbage)
	}
	return m, nil
}

func decodeRefused(body []byte) (message, error) {
	var m refused
	if err := decoder.Unmarshal(body, &m); err != nil || !text(m.Why) || !text(m.Store) {
		return nil, fmt.Errorf("refusal: %w", errGarbage)
	}
	return m, nil
}

// text tells whether s is short enough, and can be shown.
func text(s string) bool { return len(s) <= maxOrigin && utf8.ValidString(s) }

// greeting is what this director says first.
func (r *Replica) greeting() hello {
	root, records := r.o.Local.Digest().Root()
	return hello{Min: minProtocol, Max: maxProtocol, Record: affinity.Format, Name: r.o.Self, Store: r.o.StoreID, Boot: r.o.Boot,
		Root: root, Records: uint64(records), Instance: r.instance}
}

// A refusal is why a peer is not spoken with; it is told.
type refusal struct {
	why   string // to the peer
	store string // not empty: the peer's store is an old copy of this one,
	boot  uint64 // which had been opened so many times
}

func (e *refusal) Error() string { return "refused: " + e.why }

// judge says why a peer is not to be spoken with: a *refusal, or nil.
func (r *Replica) judge(peer string, h hello) error {
	switch {
	case h.Name == r.o.Self:
		return &refusal{why: fmt.Sprintf("both directors are called %q: give one another name", h.Name)}
	case h.Name != peer:
		return &refusal{why: fmt.Sprintf("it calls itself %.100q, its certificate says %q", h.Name, peer)}
	case h.Max < minProtocol:
		return &refusal{why: fmt.Sprintf("%s speaks protocols %d to %d, %s speaks %d to %d: upgrade %s", r.o.Self, minProtocol, maxProtocol, peer, h.Min, h.Max, peer)}
	case h.Min > maxProtocol:
		return &refusal{why: fmt.Sprintf("%s speaks protocols %d to %d, %s speaks %d to %d: upgrade %s", r.o.Self, minProtocol, maxProtocol, peer, h.Min, h.Max, r.o.Self)}
	}
	if r.o.Memory == nil {
		return nil
	}
	store, boot, known := r.o.Memory.Recall(peer)
	if known && store == h.Store && boot > h.Boot {
		return &refusal{store: store, boot: boot, why: fmt.Sprintf("the store of %s is an old copy: it says that it was opened %d times, and was opened %d times before", peer, h.Boot, boot)}
	}
	if !known || store != h.Store || boot != h.Boot {
		r.o.Memory.Remember(peer, h.Store, h.Boot)
	}
	return nil
}

// errOldCopy ends what a director does whose store is an old copy.
var errOldCopy = errors.New("this director's store is an old copy: another director remembers a later one")
