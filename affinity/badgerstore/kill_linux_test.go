package badgerstore

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The records of commit number n are n%50+1, with running numbers.
func batchSize(n uint64) int { return int(n%50) + 1 }

// childCommit commits numbered records until it is killed, and says what was acknowledged.
func childCommit(dir string) error {
	s, err := Open(context.Background(), Options{Dir: dir})
	if err != nil {
		return err
	}
	n := 0
	if err := s.Load(func(Record) error { n++; return nil }); err != nil {
		return err
	}
	for revision := s.Meta().Revision + 1; ; revision++ {
		recs := make([]Record, batchSize(revision))
		for i := range recs {
			recs[i] = Record{Kind: 't', Key: fmt.Sprintf("%09d", n+i), Value: fmt.Appendf(nil, "%d of %d", n+i, revision)}
		}
		if err := s.Commit(recs, revision); err != nil {
			return err
		}
		n += len(recs)
		fmt.Println(revision, n)
	}
}

// What was acknowledged survives kill -9, at any moment, and no commit is there in part.
func TestKill(t *testing.T) {
	rounds := 60
	if testing.Short() {
		rounds = 20
	}
	const seed = 1
	random := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	for round := range rounds {
		c := startChild(t, "commit", dir, nil)
		last := c.line(t)
		pause := time.Duration(random.IntN(100_000)) * time.Microsecond
		kill := time.AfterFunc(pause, func() { c.Process.Kill() })
		for c.lines.Scan() {
			last = c.lines.Text()
		}
		c.Wait()
		kill.Stop()
		if c.ProcessState.Exited() {
			t.Fatalf("seed %d, round %d: the child ended by itself: %s\n%s", seed, round, last, c.stderr.String())
		}
		checkAcknowledged(t, dir, last)
	}
}

func checkAcknowledged(t *testing.T, dir, last string) {
	t.Helper()
	rev, count, _ := strings.Cut(last, " ")
	revision, err1 := strconv.ParseUint(rev, 10, 64)
	acked, err2 := strconv.Atoi(count)
	if err1 != nil || err2 != nil {
		t.Fatalf("the child said %q", last)
	}
	s := openTest(t, dir)
	defer closeTest(t, s)
	n := 0
	err := s.Load(func(r Record) error {
		if r.Key != fmt.Sprintf("%09d", n) || !strings.HasPrefix(string(r.Value), fmt.Sprintf("%d of ", n)) {
			return fmt.Errorf("record %d is %s %q", n, r.Key, r.Value)
		}
		n++
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	got := s.Meta().Revision
	if got < revision || n < acked {
		t.Fatalf("revision %d with %d records, but %d with %d was acknowledged", got, n, revision, acked)
	}
	if got > revision+1 || n != acked && n != acked+batchSize(revision+1) || (got > revision) != (n > acked) {
		t.Fatalf("revision %d with %d records after %d with %d: a commit is there in part", got, n, revision, acked)
	}
}
