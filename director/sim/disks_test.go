package sim

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"tunneldirector/affinity"
	"tunneldirector/director"
)

func TestDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var records []affinity.Change
		for i := range 3*whole + 1 {
			records = append(records, affinity.Change{Kind: affinity.KindTunnel, Key: fmt.Sprintf("%05d", i), Value: []byte("x")})
		}
		seen := map[int]bool{}
		for seed := range uint64(16) {
			d := newDisk("s", seed, nil)
			m := d.open()
			if err := m.Commit(records[:2], 7); err != nil {
				t.Fatal(err)
			}
			d.set(func(d *disk) { d.full = true })
			if err := m.Commit(records, 8); !errors.Is(err, director.ErrRefused) {
				t.Fatalf("a full disk said %v", err)
			}
			d.set(func(d *disk) { d.full, d.slow = false, time.Second })
			done := make(chan error)
			go func() { done <- m.Commit(records[2:], 9) }()
			time.Sleep(time.Millisecond)
			d.crash()
			if err := <-done; err == nil {
				t.Fatal("a commit was durable after the crash")
			}
			if err := m.Commit(records, 10); err == nil {
				t.Fatal("a process that is no more committed")
			}
			n := 0
			if err := d.open().Load(func(c affinity.Change) error {
				if c.Key != records[n].Key {
					t.Fatalf("record %d is %s: not a prefix", n, c.Key)
				}
				n++
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			seen[n] = true
		}
		for _, n := range []int{2, 2 + whole, 2 + 2*whole, 3*whole + 1} {
			if !seen[n] {
				t.Errorf("no crash left %d records; there were %v", n, seen)
			}
		}
	})
}
