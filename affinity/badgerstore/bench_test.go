package badgerstore

import (
	"fmt"
	"os"
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
	defer s.Close()
	recs := bulk(1)
	for i := uint64(1); b.Loop(); i++ {
		if err := s.Commit(recs, i); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCommitBatch is 200,000 records of about 110 bytes in one Commit.
func BenchmarkCommitBatch(b *testing.B) {
	recs := bulk(200_000)
	for b.Loop() {
		s := openBench(b, b.TempDir())
		start := time.Now()
		if err := s.Commit(recs, 1); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(len(recs))/time.Since(start).Seconds(), "records/s")
		s.Close()
	}
}

// BenchmarkLoad opens a store of 200,000 records and reads it.
func BenchmarkLoad(b *testing.B) {
	dir := b.TempDir()
	s := openBench(b, dir)
	recs := bulk(200_000)
	if err := s.Commit(recs, 1); err != nil {
		b.Fatal(err)
	}
	s.Close()
	for b.Loop() {
		start := time.Now()
		s := openBench(b, dir)
		n := 0
		if err := s.Load(func(Record) error { n++; return nil }); err != nil || n != len(recs) {
			b.Fatalf("%d records, error %v", n, err)
		}
		b.ReportMetric(float64(len(recs))/time.Since(start).Seconds(), "records/s")
		s.Close()
	}
}

// resident is VmRSS in MiB.
func resident() float64 {
	b, _ := os.ReadFile("/proc/self/status")
	_, rest, _ := strings.Cut(string(b), "VmRSS:")
	f := strings.Fields(rest)
	if len(f) == 0 {
		return 0
	}
	kib, _ := strconv.ParseFloat(f[0], 64)
	return kib / 1024
}
