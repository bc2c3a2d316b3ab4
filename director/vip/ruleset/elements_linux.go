package ruleset

import (
	"time"

	"github.com/google/nftables"
)

// Elements are a set's members by their bytes.
type Elements map[string]nftables.SetElement

// Add adds a key, of concatenated fields.
func (e Elements) Add(fields ...[]byte) { e.add(nftables.SetElement{Key: Key(fields...)}) }

// AddFor adds a key to a timed set. Adding it again later does not give it more time: Make does.
func (e Elements) AddFor(d time.Duration, fields ...[]byte) {
	e.add(nftables.SetElement{Key: Key(fields...), Timeout: d})
}

// AddRange adds a range; both ends belong to it.
func (e Elements) AddRange(first, last []byte) { e.add(nftables.SetElement{Key: first, KeyEnd: last}) }

func (e Elements) add(el nftables.SetElement) {
	if len(el.KeyEnd) == 0 {
		el.KeyEnd = nil
	}
	e[string(el.Key)+"-"+string(el.KeyEnd)] = el
}

// Has tells whether a key was added, of concatenated fields.
func (e Elements) Has(fields ...[]byte) bool {
	_, ok := e[string(Key(fields...))+"-"]
	return ok
}

// Key is several fields concatenated, each of which fills up registers of 4 bytes.
func Key(fields ...[]byte) []byte {
	var key []byte
	for _, f := range fields {
		key = append(key, f...)
		for len(fields) > 1 && len(key)%4 != 0 {
			key = append(key, 0)
		}
	}
	return key
}

// Name is an interface's name as a field.
func Name(ifname string) []byte {
	b := make([]byte, 16)
	copy(b, ifname)
	return b
}

// diff is what is to be added to and removed from have.
func diff(have, want Elements) (add, remove []nftables.SetElement) {
	for k, e := range want {
		if _, ok := have[k]; !ok {
			add = append(add, e)
		}
	}
	for k, e := range have {
		if _, ok := want[k]; !ok {
			remove = append(remove, e)
		}
	}
	return add, remove
}
