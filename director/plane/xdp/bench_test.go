//go:build linux

package xdp

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
	"tunneldirector/integration/spaces"
)

//go:generate go tool bpf2go -target bpfel -tags linux bench bpf/bench.c -- -O2 -g -Wall -Wextra -Wno-address-of-packed-member -Werror -Ibpf

var benchSizes = []int{10_000, 100_000, 1_000_000}

// benchEntry is the i-th key of each kind; the feeders of bpf/bench.c make packets of the same.
func benchEntry(kind string, i int) plane.Entry {
	e := plane.Entry{Target: plane.Target{Primary: affinity.Index(1 + i%2), Backup: affinity.Index(2 - i%2)}}
	var b4 [4]byte
	switch kind {
	case "v4", "ipip":
		binary.BigEndian.PutUint32(b4[:], 0x14000000+uint32(i))
		e.Endpoint = plane.EndpointKey{VIP: addr("192.0.2.1"), Addr: netip.AddrFrom4(b4)}
	case "v6":
		b := addr("2001:db8:f::").As16()
		binary.BigEndian.PutUint32(b[12:], uint32(i+1))
		e.Endpoint = plane.EndpointKey{VIP: addr("2001:db8::1"), Addr: netip.AddrFrom16(b)}
	case "subnet4":
		binary.BigEndian.PutUint32(b4[:], 0x0a000000+uint32(i)*16)
		e.Subnet = plane.SubnetKey{Prefix: netip.PrefixFrom(netip.AddrFrom4(b4), 28)}
	}
	return e
}

func benchConfig(method affinity.Method) plane.Config {
	c := example()
	c.Services[1].Ring = nil
	c.RealServers = c.RealServers[:2]
	for i := range c.RealServers {
		c.RealServers[i].Method = method
	}
	return c
}

func benchPlane(b *testing.B, kind string, n int) *Plane {
	b.Helper()
	p := oneNamespace(b, threeSides, func(o *Options) { o.MaxPins, o.MaxSubnets = 1_100_000, 1_100_000 })
	c := benchConfig(affinity.DR)
	if kind == "ipip" {
		c = benchConfig(affinity.IPIP)
	}
	must(b, p.Replace(context.Background(), c, func(yield func(plane.Entry) bool) {
		for i := range n {
			if !yield(benchEntry(kind, i)) {
				return
			}
		}
	}))
	fakeLinks(b, p, c.RealServers, "rs")
	return p
}

// feeders loads the feeders for n keys, aimed at an interface's MAC.
func feeders(b *testing.B, n int, mac [6]byte) *benchObjects {
	b.Helper()
	spec, err := loadBench()
	must(b, err)
	spec.Maps["bench_lines"].MaxEntries = uint32(n)
	must(b, spec.Variables["bench_mac"].Set(mac))
	must(b, spec.Variables["bench_keys"].Set(uint32(n)))
	must(b, spec.Variables["bench_vip4"].Set(encode4(addr("192.0.2.1"))))
	must(b, spec.Variables["bench_vip6"].Set(encodeAddr(addr("2001:db8::1")).Word))
	var o benchObjects
	must(b, spec.LoadAndAssign(&o, nil))
	b.Cleanup(func() { o.Close() })
	return &o
}

// feed runs b.N packets of feeder through prog, as if they came by the interface, and returns the last one's action. One
// operation is one packet.
func feed(b *testing.B, o *benchObjects, feeder, prog *ebpf.Program, ifindex int) (action uint32) {
	b.Helper()
	must(b, o.BenchNext.Put(uint32(0), uint32(prog.FD())))
	frame := make([]byte, 14+64)
	run := ebpf.RunOptions{Data: frame, Context: xdpContext{DataEnd: uint32(len(frame)), Ingress: uint32(ifindex)}, Repeat: uint32(b.N)}
	b.ResetTimer()
	action, err := feeder.Run(&run)
	b.StopTimer()
	must(b, err)
	return action
}

// sent fails if the last packet was not.
func sent(b *testing.B, action uint32) {
	b.Helper()
	if action != xdpTX && action != xdpRedirect {
		b.Fatalf("the last packet had action %d", action)
	}
}

// BenchmarkForward is the whole program with random keys; ns/op is ns a packet, the feeder (BenchmarkFloor/swap) in it.
func BenchmarkForward(b *testing.B) {
	for _, n := range benchSizes {
		for _, kind := range []string{"v4", "v6", "subnet4"} {
			b.Run(fmt.Sprintf("%s/%d", kind, n), func(b *testing.B) {
				p := benchPlane(b, kind, n)
				side := 0
				if kind == "subnet4" {
					side = 1
				}
				o := feeders(b, n, p.ports.all()[side].mac)
				feeder := map[string]*ebpf.Program{"v4": o.BenchFeedV4, "v6": o.BenchFeedV6, "subnet4": o.BenchFeedSubnet4}[kind]
				sent(b, feed(b, o, feeder, p.o.TdForward, p.ports.all()[side].index))
			})
		}
	}
}

// BenchmarkDrop is a flood from endpoints that nobody knows, past n that somebody does.
func BenchmarkDrop(b *testing.B) {
	for _, n := range benchSizes {
		b.Run(fmt.Sprintf("v4/%d", n), func(b *testing.B) {
			p := benchPlane(b, "v6", n)
			tun := p.ports.all()[0]
			o := feeders(b, n, tun.mac)
			if action := feed(b, o, o.BenchFeedV4, p.o.TdForward, tun.index); action != xdpDrop {
				b.Fatalf("the last packet had action %d", action)
			}
		})
	}
}

// BenchmarkWatched is BenchmarkForward/v4 while somebody watches for none of the packets, and for all of them.
func BenchmarkWatched(b *testing.B) {
	for _, n := range benchSizes {
		for kind, w := range map[string]plane.Watch{"none": {Src: prefix("198.51.100.1/32")}, "all": {Proto: 50}} {
			b.Run(fmt.Sprintf("%s/%d", kind, n), func(b *testing.B) {
				p := benchPlane(b, "v4", n)
				tun := p.ports.all()[0]
				o := feeders(b, n, tun.mac)
				must(b, p.Watch(w, time.Now().Add(time.Hour)))
				sent(b, feed(b, o, o.BenchFeedV4, p.o.TdForward, tun.index))
			})
		}
	}
}

// BenchmarkFloor is what cannot be undercut: swapping MAC addresses, and that after one random line of memory.
func BenchmarkFloor(b *testing.B) {
	for _, n := range benchSizes {
		for _, kind := range []string{"swap", "line"} {
			b.Run(fmt.Sprintf("%s/%d", kind, n), func(b *testing.B) {
				spaces.Root(b)
				o := feeders(b, n, [6]byte{2})
				prog := o.BenchSwap
				if kind == "line" {
					prog = o.BenchLine
				}
				sent(b, feed(b, o, o.BenchFeedV4, prog, 0))
			})
		}
	}
}

// BenchmarkReplace is a start over n pins that are there already, and a fill of empty tables.
func BenchmarkReplace(b *testing.B) {
	for _, n := range benchSizes {
		c := benchConfig(affinity.DR)
		all := func(yield func(plane.Entry) bool) {
			for i := range n {
				if !yield(benchEntry("v4", i)) {
					return
				}
			}
		}
		perPin := func(b *testing.B) {
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/pin")
		}
		b.Run(fmt.Sprintf("same/%d", n), func(b *testing.B) {
			p := benchPlane(b, "v4", n)
			b.ResetTimer()
			for range b.N {
				must(b, p.Replace(context.Background(), c, all))
			}
			perPin(b)
		})
		b.Run(fmt.Sprintf("fill/%d", n), func(b *testing.B) {
			p := benchPlane(b, "v4", 0)
			b.ResetTimer()
			for range b.N {
				must(b, p.Replace(context.Background(), c, all))
				b.StopTimer()
				replaceAll(b, p, c)
				b.StartTimer()
			}
			perPin(b)
		})
	}
}

// BenchmarkSetAlive is the death of a real server with half of the pins.
func BenchmarkSetAlive(b *testing.B) {
	for _, n := range benchSizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			p := benchPlane(b, "v4", n)
			b.ResetTimer()
			for i := range b.N {
				must(b, p.SetAlive(1, i%2 == 0))
			}
		})
	}
}
