package badgerstore

import (
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"tunneldirector/affinity"
)

func openBench(b *testing.B, dir string) *Store {
	b.Helper()
	s, err := Open(b.Context(), Options{Dir: dir})
	if err != nil {
		b.Fatal(err)
	}
	return s
}

func bulk(n int) []Record {
	recs := make([]Record, n)
	value := make([]byte, 100)
	for i := range recs {
		recs[i] = Record{Kind: affinity.KindTunnel, Key: fmt.Sprintf("site-%07d", i), Value: value}
	}
	return recs
}

// BenchmarkCommitOne is one durable record.
func BenchmarkCommitOne(b *testing.B) {
	s := openBench(b, b.TempDir())
	defer closeBench(b, s)
	recs := bulk(1)
	for i := uint64(1); b.Loop(); i++ {
		if err := s.Commit(recs, i); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCommitBatch is many records of about 110 bytes in one Commit to a new store.
func BenchmarkCommitBatch(b *testing.B) {
	for _, n := range []int{100_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			recs := bulk(n)
			var took time.Duration
			for b.Loop() {
				s := openBench(b, b.TempDir())
				start := time.Now()
				if err := s.Commit(recs, 1); err != nil {
					b.Fatal(err)
				}
				took += time.Since(start)
				closeBench(b, s)
			}
			b.ReportMetric(float64(b.N*n)/took.Seconds(), "records/s")
		})
	}
}

// BenchmarkLoad opens a store and reads it all.
func BenchmarkLoad(b *testing.B) {
	for _, n := range []int{100_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			dir := b.TempDir()
			s := openBench(b, dir)
			if err := s.Commit(bulk(n), 1); err != nil {
				b.Fatal(err)
			}
			closeBench(b, s)
			debug.FreeOSMemory()
			before := resident(b)
			var took time.Duration
			for b.Loop() {
				start := time.Now()
				s := openBench(b, dir)
				got := 0
				if err := s.Load(func(Record) error { got++; return nil }); err != nil || got != n {
					b.Fatalf("%d records, error %v", got, err)
				}
				took += time.Since(start)
				b.ReportMetric(resident(b)-before, "MiB-resident")
				closeBench(b, s)
			}
			b.ReportMetric(float64(b.N*n)/took.Seconds(), "records/s")
		})
	}
}

func closeBench(b *testing.B, s *Store) {
	b.Helper()
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
}

// resident is the process's memory in MiB, mapped files included.
func resident(b *testing.B) float64 {
	b.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	kib, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
	if err != nil {
		b.Fatal(err)
	}
	return kib / 1024
}
