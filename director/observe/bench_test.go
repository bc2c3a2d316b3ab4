package observe

import (
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"tunneldirector/affinity"
	"tunneldirector/director/agent"
)

// fill tells a Book of tunnels at as many real servers as it takes.
func fill(b *testing.B, book *Book, n int) {
	for i := 0; i < n; i += agent.MaxReported {
		name := fmt.Sprint("rs", i)
		l := newLine(nil, "host", "one")
		if _, err := book.join(l, hello("one", name), anyone); err != nil {
			b.Fatal(err)
		}
		all := min(n-i, agent.MaxReported)
		for j := 0; j < all; j += agent.MaxTunnels {
			r := &agent.Report{RealServer: name, Seq: 1, Whole: true, First: j == 0, Last: j+agent.MaxTunnels >= all, Up: tunnels(i+j, min(agent.MaxTunnels, all-j))}
			if _, err := book.report(l, r); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// A whole report of 10,000 tunnels, and one of 1,000 that changed, from an agent's message to the Book: over a stream.
func BenchmarkReports(b *testing.B) {
	for _, c := range []struct {
		name  string
		n     int
		whole bool
	}{{"whole-10000", 10_000, true}, {"changes-1000", 1000, false}} {
		b.Run(c.name, func(b *testing.B) {
			s := newStand(b)
			s.whole(tunnels(0, 10_000)...)
			near, far := net.Pipe()
			defer near.Close()
			in, out := agent.NewConn(far), agent.NewConn(near)
			bytes := &counter{}
			list := tunnels(0, c.n)
			for i := range list {
				list[i].Subnets = []netip.Prefix{netip.MustParsePrefix("10.1.2.0/24")}
			}
			go func() {
				for seq := uint64(2); ; seq++ {
					for i := 0; i < c.n; i += agent.MaxTunnels {
						r := &agent.Report{RealServer: "rs1", Seq: seq, Whole: c.whole, First: c.whole && i == 0, Last: c.whole && i+agent.MaxTunnels >= c.n, Up: list[i:min(c.n, i+agent.MaxTunnels)]}
						if out.Send(agent.Message{Report: r}) != nil {
							return
						}
					}
				}
			}()
			_ = agent.NewConn(bytes).Send(agent.Message{Report: &agent.Report{RealServer: "rs1", Up: list[:1000]}})
			b.ReportAllocs()
			for b.Loop() {
				for range (c.n + agent.MaxTunnels - 1) / agent.MaxTunnels {
					m, err := in.Receive()
					if err != nil {
						b.Fatal(err)
					}
					if _, err := s.report(s.line, m.Report); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(c.n), "ns/tunnel")
			b.ReportMetric(float64(bytes.n)/1000, "wire-bytes/tunnel")
		})
	}
}

// A counter is a connection that counts what is written.
type counter struct {
	net.Conn
	n int
}

func (c *counter) SetWriteDeadline(time.Time) error { return nil }

func (c *counter) Write(p []byte) (int, error) { c.n += len(p); return len(p), nil }

func BenchmarkMillion(b *testing.B) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	book := NewBook(nil)
	const n = 1_000_000
	fill(b, book, n)
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.Run("sightings", func(b *testing.B) {
		var ask [4096][]affinity.Endpoint
		for i := range ask {
			ask[i] = []affinity.Endpoint{tunnel(i * 7919 % n).Endpoint}
		}
		i := 0
		b.ReportAllocs()
		for b.Loop() {
			if len(book.Sightings(vips, ask[i%len(ask)], false)) != 1 {
				b.Fatal("not seen")
			}
			i++
		}
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/n, "heap-bytes/tunnel")
	})
	b.Run("nobody", func(b *testing.B) {
		ask := []affinity.Endpoint{netip.MustParseAddrPort("198.51.100.1:4500")}
		b.ReportAllocs()
		for b.Loop() {
			book.Sightings(vips, ask, true)
		}
	})
	b.Run("agents", func(b *testing.B) {
		for b.Loop() {
			book.Agents()
		}
	})
	b.Run("sweep", func(b *testing.B) {
		for b.Loop() {
			book.mu.Lock()
			book.swept = book.swept.Add(-10 * remember)
			book.sweep(book.now())
			book.mu.Unlock()
		}
	})
}

// Many sites behind one address: each of them is found by its port.
func BenchmarkOneAddress(b *testing.B) {
	s := newStand(b)
	const n = 40_000
	list := tunnels(0, n)
	for i := range list {
		list[i].Endpoint = netip.AddrPortFrom(sites[0], uint16(1000+i))
	}
	s.whole(list[:1]...)
	for i := 0; i < n; i += agent.MaxTunnels {
		s.say(agent.Report{Up: list[i : i+agent.MaxTunnels]})
	}
	i := 0
	for b.Loop() {
		if len(s.Sightings(vips, []affinity.Endpoint{list[i%n].Endpoint}, false)) != 1 {
			b.Fatal("not seen")
		}
		i++
	}
}
