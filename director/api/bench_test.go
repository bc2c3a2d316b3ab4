package api

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"runtime"
	"strconv"
	"testing"

	"tunneldirector/affinity"
)

// 133 bytes, as in the baselines.
var benchLine = []byte(`{"id":"site-004242","service":"ipsec","endpoints":["203.0.113.5"],"subnets":["100.64.40.32/28"],"bandwidth_bps":2000000,"state":"up"}`)

func BenchmarkParseLine(b *testing.B) {
	parse := parseItem(affinity.Actor{Name: "nms"})
	b.Run("ours", func(b *testing.B) {
		b.SetBytes(int64(len(benchLine)))
		b.ReportAllocs()
		for b.Loop() {
			if _, _, p := parse(benchLine); p != nil {
				b.Fatal(p)
			}
		}
	})
	b.Run("encoding-json", func(b *testing.B) { // strict about unknown fields only, and without the addresses
		b.SetBytes(int64(len(benchLine)))
		b.ReportAllocs()
		for b.Loop() {
			var w BatchItem
			d := json.NewDecoder(bytes.NewReader(benchLine))
			d.DisallowUnknownFields()
			if err := d.Decode(&w); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// A lineSource is a body of n lines, made as it is read.
type lineSource struct {
	n, i int
	buf  []byte
}

func (s *lineSource) Read(p []byte) (int, error) {
	for len(s.buf) < len(p) && s.i < s.n {
		s.i++
		s.buf = append(s.buf, `{"id":"site-`...)
		s.buf = strconv.AppendInt(s.buf, int64(1_000_000+s.i), 10)
		s.buf = append(s.buf, benchLine[len(`{"id":"site-004242`):]...)
		s.buf = append(s.buf, '\n')
	}
	if len(s.buf) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.buf)
	s.buf = s.buf[:copy(s.buf, s.buf[n:])]
	return n, nil
}

// One operation is a line of a batch over HTTP, with a director that costs nothing.
func BenchmarkBatchHTTP(b *testing.B) {
	srv := serve(b, fuzzDirector{furnished()}, Options{})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	b.ResetTimer()
	req, err := http.NewRequest("POST", srv.URL+"/v1/tunnels/batch", &lineSource{n: b.N})
	if err != nil {
		b.Fatal(err)
	}
	res, err := srv.Client().Do(req)
	if err != nil {
		b.Fatal(err)
	}
	data, err := io.ReadAll(res.Body)
	res.Body.Close()
	b.StopTimer()
	if err != nil {
		b.Fatal(err)
	}
	if sum := readOutcome(b, data).summary; sum.Unchanged != b.N || !sum.Complete {
		b.Fatalf("%+v", sum)
	}
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.HeapSys-min(before.HeapSys, after.HeapSys))/(1<<20), "MiB-heap-grown")
}

// One operation is a single push over HTTP to the table in memory, the disk left out.
func BenchmarkPutHTTP(b *testing.B) {
	srv := serve(b, furnished(), Options{})
	for b.Loop() {
		req, err := http.NewRequest("PUT", srv.URL+"/v1/tunnels/site-004242", bytes.NewReader(benchLine))
		if err != nil {
			b.Fatal(err)
		}
		res, err := srv.Client().Do(req)
		if err != nil {
			b.Fatal(err)
		}
		_, err = io.Copy(io.Discard, res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode > 201 {
			b.Fatal(res.Status, err)
		}
	}
}
