package xdp

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
)

// readSmall reads a whole small hash.
func readSmall[K, V comparable](m *ebpf.Map) (map[K]V, error) {
	have := map[K]V{}
	var k K
	var v V
	it := m.Iterate()
	for it.Next(&k, &v) {
		have[k] = v
	}
	if err := it.Err(); err != nil {
		return nil, fmt.Errorf("read map %s: %w", m, err)
	}
	return have, nil
}

// grow sets what of want is missing or different; shrink deletes what is not in want. Each element changes at once.
func grow[K, V comparable](m *ebpf.Map, want map[K]V) error {
	have, err := readSmall[K, V](m)
	if err != nil {
		return err
	}
	for k, v := range want {
		if old, ok := have[k]; ok && old == v {
			continue
		}
		if err := m.Put(&k, &v); err != nil {
			return fmt.Errorf("write map %s (%d entries at most): %w", m, m.MaxEntries(), err)
		}
	}
	return nil
}

func shrink[K, V comparable](m *ebpf.Map, want map[K]V) error {
	have, err := readSmall[K, V](m)
	if err != nil {
		return err
	}
	for k := range have {
		if _, ok := want[k]; ok {
			continue
		}
		if err := m.Delete(&k); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("delete from map %s: %w", m, err)
		}
	}
	return nil
}
