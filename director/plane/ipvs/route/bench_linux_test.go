package route

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// many is a large table of one family.
const many = 100_000

// manyRoutes lead to one nexthop.
func manyRoutes(v6 bool, table, nexthop uint32) []Route {
	list := make([]Route, 0, many)
	for p := range subnets(many, v6) {
		list = append(list, Route{table, p, nexthop, 10})
	}
	return list
}

func byFamily(b *testing.B, f func(b *testing.B, l *lab, v6 bool)) {
	for _, v6 := range []bool{false, true} {
		b.Run(map[bool]string{false: "IPv4", true: "IPv6"}[v6], func(b *testing.B) {
			l := newLab(b)
			must(b, l.t.SetNexthops(b.Context(), []Nexthop{nexthop(1, v6, 0)}))
			f(b, l, v6)
		})
	}
}

// used is the kernel's and everybody's memory, without caches.
func used(b *testing.B) (bytes float64) {
	b.Helper()
	runtime.GC()
	info, err := os.ReadFile("/proc/meminfo")
	must(b, err)
	for line := range strings.Lines(string(info)) {
		f := strings.Fields(line)
		n, err := strconv.Atoi(f[1])
		must(b, err)
		switch f[0] {
		case "MemTotal:":
			bytes += float64(n) * 1024
		case "MemFree:", "Buffers:", "Cached:", "SReclaimable:":
			bytes -= float64(n) * 1024
		}
	}
	return bytes
}

// Setting and deleting in bulk, and the memory that a route takes (that of the whole machine: run it alone).
func BenchmarkSetRoutes(b *testing.B) {
	byFamily(b, func(b *testing.B, l *lab, v6 bool) {
		routes := manyRoutes(v6, table, 1)
		var set, reset, cut time.Duration
		memory := 0.0
		for b.Loop() {
			before, start := used(b), time.Now()
			must(b, l.t.SetRoutes(b.Context(), routes))
			set += time.Since(start)
			memory += used(b) - before
			start = time.Now()
			must(b, l.t.SetRoutes(b.Context(), routes))
			reset += time.Since(start)
			start = time.Now()
			must(b, l.t.DeleteRoutes(b.Context(), routes))
			cut += time.Since(start)
		}
		rate := func(d time.Duration) float64 { return many * float64(b.N) / d.Seconds() }
		b.ReportMetric(rate(set), "set/s")
		b.ReportMetric(rate(reset), "again/s")
		b.ReportMetric(rate(cut), "deleted/s")
		b.ReportMetric(memory/float64(b.N)/many, "B/route")
		b.ReportMetric(0, "ns/op")
	})
}

// One message under a large table, with and without net.ipv4.nexthop_compat_mode, and with somebody who listens to routes.
func BenchmarkSetNexthop(b *testing.B) {
	byFamily(b, func(b *testing.B, l *lab, v6 bool) {
		must(b, l.t.SetRoutes(b.Context(), manyRoutes(v6, table, 1)))
		for _, compat := range []string{"0", "1"} {
			for _, heard := range []bool{false, true} {
				b.Run(fmt.Sprintf("compat_mode=%s/heard=%t", compat, heard), func(b *testing.B) {
					l.director.Sysctl("net/ipv4/nexthop_compat_mode", compat)
					if heard {
						c, err := dial(int(l.director.NS), 1<<(unix.RTNLGRP_IPV4_ROUTE-1)|1<<(unix.RTNLGRP_IPV6_ROUTE-1))
						must(b, err)
						defer c.close()
					}
					for i := 0; b.Loop(); i++ {
						must(b, l.t.SetNexthops(b.Context(), []Nexthop{nexthop(1, v6, i%2)}))
					}
				})
			}
		}
	})
}

func (l *lab) count(b *testing.B, table uint32, want int) {
	b.Helper()
	n := 0
	for _, err := range l.t.Routes(table) {
		must(b, err)
		n++
	}
	if n != want {
		b.Fatalf("%d routes are there, want %d", n, want)
	}
}

// Reading ours, and reading a small table beside a large one.
func BenchmarkRoutes(b *testing.B) {
	byFamily(b, func(b *testing.B, l *lab, v6 bool) {
		must(b, l.t.SetRoutes(b.Context(), manyRoutes(v6, table, 1)))
		b.Run("all", func(b *testing.B) {
			for b.Loop() {
				l.count(b, 0, many)
			}
		})
		b.Run("another table", func(b *testing.B) {
			must(b, l.t.SetRoutes(b.Context(), []Route{{table + 1, prefix("10.0.0.0/8"), 0, 1}}))
			for b.Loop() {
				l.count(b, table+1, 1)
			}
		})
	})
}

// A cable is pulled and put back under a large table of each family: from then to the first packet (most of that is the kernel's
// delay before it tells of the carrier, up to a second), and what setting all nexthops again takes.
func BenchmarkHeal(b *testing.B) {
	l := newLab(b)
	nexthops, _ := l.fill(b, many)
	l.rs[0].Give("lo", inside[0].String()+"/32")
	send, at := connect(l.target, inside[0]), catch(l.rs[0], inside[0])
	for _, compat := range []string{"0", "1"} {
		b.Run("compat_mode="+compat, func(b *testing.B) {
			l.director.Sysctl("net/ipv4/nexthop_compat_mode", compat)
			var put, set time.Duration
			for b.Loop() {
				l.wires.Down("d")
				l.lost(b)
				start := time.Now()
				l.wires.Up("d")
				waitCarrier(l.director, "rs0", true)
				told := time.Now()
				must(b, l.t.SetNexthops(b.Context(), nexthops))
				set += time.Since(told)
				if !arrives(b, send, at, 5*time.Second) {
					b.Fatal("not reached")
				}
				put += time.Since(start)
			}
			b.ReportMetric(float64(put.Milliseconds())/float64(b.N), "ms/back")
			b.ReportMetric(float64(set.Microseconds())/float64(b.N)/1000, "ms/set")
			b.ReportMetric(0, "ns/op")
		})
	}
}
