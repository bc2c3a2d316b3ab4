package main

import (
	"bytes"
	stdjson "encoding/json"
	"fmt"
	"net/netip"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/go-json-experiment/json"

	"tunneldirector/director/api"
	"tunneldirector/integration/daemon"
)

// tunnel is tunnel number i: an address in 10.0.0.0/8, and a /30 in 100.64.0.0/10, of which there are 1,048,576.
func tunnel(i int) api.Tunnel {
	endpoint := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
	j := 100<<24 + 64<<16 + i*4
	subnet := netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(j >> 24), byte(j >> 16), byte(j >> 8), byte(j)}), 30)
	return api.Tunnel{
		ID: fmt.Sprintf("site-%07d", i), Service: daemon.Service, Endpoints: []string{endpoint.String()},
		Subnets: []string{subnet.String()}, Bandwidth: 2_000_000, State: "down",
	}
}

// body is a batch of n tunnels.
func body(n int) ([]byte, error) {
	var b bytes.Buffer
	b.Grow(n * 150)
	enc := stdjson.NewEncoder(&b)
	for i := range n {
		if err := enc.Encode(tunnel(i)); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}

// parseAlone is how long the lines of a batch take to parse, in seconds.
func parseAlone(lines []byte) (float64, error) {
	began := time.Now()
	for line := range bytes.Lines(lines) {
		var item api.BatchItem
		if err := json.Unmarshal(line, &item); err != nil {
			return 0, err
		}
	}
	return time.Since(began).Seconds(), nil
}

// A floorStore is badger with as much in it as tunnels take, and nothing around it.
type floorStore struct {
	db  *badger.DB
	dir string
}

const floorValue = 150 // bytes

func (s *floorStore) open() (err error) {
	s.db, err = badger.Open(badger.DefaultOptions(s.dir).WithSyncWrites(true).WithLogger(nil).WithMetricsEnabled(false))
	return err
}

// close is idempotent.
func (s *floorStore) close() error {
	if s.db == nil {
		return nil
	}
	err := s.db.Close()
	s.db = nil
	return err
}

// batch writes n records durably and tells how long that took, in seconds.
func (s *floorStore) batch(n int) (float64, error) {
	began := time.Now()
	w := s.db.NewWriteBatch()
	defer w.Cancel()
	for i := range n {
		if err := w.Set(floorKey(i), floorBytes(i)); err != nil {
			return 0, err
		}
	}
	if err := w.Flush(); err != nil {
		return 0, err
	}
	return time.Since(began).Seconds(), nil
}

// put writes record i durably, in milliseconds.
func (s *floorStore) put(i int) (float64, error) {
	began := time.Now()
	err := s.db.Update(func(t *badger.Txn) error { return t.Set(floorKey(i), floorBytes(i)) })
	return milliseconds(time.Since(began)), err
}

// reopen opens the closed store again and reads it all, in seconds.
func (s *floorStore) reopen() (float64, error) {
	began := time.Now()
	if err := s.open(); err != nil {
		return 0, err
	}
	err := s.db.View(func(t *badger.Txn) error {
		it := t.NewIterator(badger.DefaultIteratorOptions)
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			if err := it.Item().Value(func([]byte) error { return nil }); err != nil {
				return err
			}
		}
		return nil
	})
	return time.Since(began).Seconds(), err
}

func floorKey(i int) []byte { return fmt.Appendf(nil, "site-%07d", i) }

func floorBytes(i int) []byte {
	b := make([]byte, floorValue)
	for j := range b {
		b[j] = byte(i>>(j%24)) ^ byte(j)
	}
	return b
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
