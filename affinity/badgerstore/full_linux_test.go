package badgerstore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"tunneldirector/integration/spaces"
)

// Full disks are tested on a real small file system.
func TestFullDisk(t *testing.T) {
	mnt := spaces.Disk(t, 640<<20)
	dir, filler, other := filepath.Join(mnt, "store"), filepath.Join(mnt, "filler"), filepath.Join(mnt, "other")
	if err := os.WriteFile(other, make([]byte, 96<<20), 0o600); err != nil {
		t.Fatal(err)
	}

	t.Log("one process: fills the disk, is refused, reads, sees somebody take the rest, goes on when there is room")
	c := startChild(t, "fill", dir, nil)
	t.Log(c.expect(t, "full"))
	fillUp(t, filler)
	c.next(t)
	t.Log(c.expect(t, "refused"))
	fillUp(t, filler) // what the ballast left
	c.next(t)
	t.Log(c.expect(t, "refused"))
	remove(t, filler)
	remove(t, other)
	c.next(t)
	t.Log(c.expect(t, "resumed"))
	c.Process.Kill()
	c.Wait()

	t.Log("a new process: opens on a disk that somebody filled, by the ballast")
	if _, err := os.Stat(filepath.Join(dir, ballastFile)); err != nil {
		t.Fatalf("the ballast was not taken back: %v", err)
	}
	fillUp(t, filler)
	c = startChild(t, "open", dir, nil)
	if l := c.expect(t, "open"); !strings.HasSuffix(l, "false") {
		t.Errorf("the child says %q, want its commit refused", l)
	}
	c.end(t)

	t.Log("without the ballast it is refused, however often")
	os.Remove(filepath.Join(dir, ballastFile))
	fillUp(t, filler)
	for range 3 {
		c = startChild(t, "open", dir, nil)
		if l := c.expect(t, "refused:"); !strings.Contains(l, ErrFull.Error()) || !strings.Contains(l, dir) {
			t.Errorf("the child says %q", l)
		}
		c.end(t)
	}

	t.Log("and with room it opens and writes")
	remove(t, filler)
	c = startChild(t, "open", dir, nil)
	if l := c.expect(t, "open"); !strings.HasSuffix(l, "true") {
		t.Errorf("the child says %q, want its commit done", l)
	}
	c.end(t)
}

// fillUp writes to path until the disk has not one block left.
func fillUp(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 1<<20)
	for len(block) >= 4096 {
		if _, err := f.Write(block); errors.Is(err, syscall.ENOSPC) {
			block = block[:len(block)/2]
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil && !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// childFill commits until it is refused, sees that it stays so and that all can be read; then again at each word from
// its parent, until it may commit again.
func childFill(dir string) error {
	s, err := Open(context.Background(), Options{Dir: dir})
	if err != nil {
		return err
	}
	var lowest atomic.Int64
	go watchFree(dir, &lowest)
	f := &filling{s: s, r: rand.New(rand.NewPCG(1, 1)), acked: map[string]byte{}}
	for n := 0; err == nil; n++ {
		err = f.commit(2000)
	}
	if err := f.refused(err); err != nil {
		return err
	}
	if err := settle(dir); err != nil {
		return err
	}
	fmt.Printf("full: %d records, lowest free space %d MiB\n", len(f.acked), lowest.Load()>>20)
	for await() == nil {
		s.space.look(s.log)
		switch err := f.commit(100); {
		case err == nil:
			if err := f.check(); err != nil {
				return err
			}
			fmt.Printf("resumed: %+v\n", s.State())
		default:
			fail := f.refused(err)
			if fail != nil {
				return fail
			}
			if fail := settle(dir); fail != nil {
				return fail
			}
			fmt.Println("refused:", err)
		}
	}
	return s.Close()
}

// settle waits until the free space stays the same, that is until badger's compaction is done: what the store promises
// is that it does not fill the disk itself. Somebody else who takes the last block during a compaction ends it.
func settle(dir string) error {
	var last int64
	same := 0
	for same < 15 {
		free, err := (hostFS{}).Free(dir)
		if err != nil {
			return err
		}
		if same++; free != last {
			last, same = free, 0
		}
		time.Sleep(100 * time.Millisecond)
	}
	return nil
}

// watchFree keeps the lowest free space ever seen, until the process ends.
func watchFree(dir string, lowest *atomic.Int64) {
	lowest.Store(math.MaxInt64)
	for range time.Tick(500 * time.Microsecond) {
		if free, err := (hostFS{}).Free(dir); err == nil && free < lowest.Load() {
			lowest.Store(free)
		}
	}
}

type filling struct {
	s     *Store
	r     *rand.Rand
	acked map[string]byte // key -> the value's first byte
	keys  []string
	rev   uint64
}

// commit writes n records, half of them over old ones, so that there is something to compact.
func (f *filling) commit(n int) error {
	recs := make([]Record, n)
	for i := range recs {
		key := fmt.Sprintf("%016x", f.r.Uint64())
		if len(f.keys) > 0 && i%2 == 0 {
			key = f.keys[f.r.IntN(len(f.keys))]
		}
		value := make([]byte, 1000)
		value[0] = byte(f.r.Uint32())
		recs[i] = Record{Kind: 't', Key: key, Value: value}
	}
	f.rev++
	err := f.s.Commit(recs, f.rev)
	if err != nil {
		return err
	}
	for _, r := range recs {
		if _, ok := f.acked[r.Key]; !ok {
			f.keys = append(f.keys, r.Key)
		}
		f.acked[r.Key] = r.Value[0]
	}
	return nil
}

// refused sees that err says so, that trying again and again does no harm, and that all can be read.
func (f *filling) refused(err error) error {
	for range 60 {
		// Compaction may make room for some.
		if err != nil && (!errors.Is(err, ErrFull) || !strings.Contains(err.Error(), f.s.dir) || !strings.Contains(err.Error(), "remove other files")) {
			return fmt.Errorf("refused with %w", err)
		}
		err = f.commit(500)
	}
	return f.check()
}

func (f *filling) check() error {
	n := 0
	err := f.s.Load(func(r Record) error {
		n++
		if v, ok := f.acked[r.Key]; !ok || r.Value[0] != v {
			return fmt.Errorf("%q is not what was acknowledged", r.Key)
		}
		return nil
	})
	if err == nil && n != len(f.acked) {
		err = fmt.Errorf("%d records, %d were acknowledged", n, len(f.acked))
	}
	return err
}
