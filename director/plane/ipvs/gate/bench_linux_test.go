package gate

import (
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/moby/ipvs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tunneldirector/director/vip/ruleset"
	"tunneldirector/integration/spaces"
)

// large is 64 services at 8 VIPs each, with IKE, NAT-T, ESP and AH, and 256 real servers.
func large() Wanted {
	w := wanted
	for i := range 256 {
		w.Neighbours = append(w.Neighbours, Neighbour{netip.AddrFrom4([4]byte{10, 2, 1, byte(i)}), [6]byte{2, 0, 0, 9, 1, byte(i)}})
	}
	w.VIPs, w.Services, w.NoPort = nil, nil, nil
	for s := range 64 {
		for v := range 8 {
			vip := netip.AddrFrom4([4]byte{198, 51, byte(s), byte(v)})
			if v%2 == 1 {
				vip = netip.AddrFrom16([16]byte{0x20, 1, 0x0d, 0xb8, 1, byte(s), byte(v)})
			}
			w.VIPs = append(w.VIPs, vip)
			w.Services = append(w.Services, Allowed{vip, protoUDP, 500, 500}, Allowed{vip, protoUDP, 4500, 4500},
				Allowed{vip, protoESP, 0, 0}, Allowed{vip, protoAH, 0, 0})
		}
	}
	return w
}

func BenchmarkSet(b *testing.B) {
	spaces.New(b, 1)
	g := openGate(b)
	w := large()
	b.Run("new", func(b *testing.B) {
		for b.Loop() {
			must(b, g.Remove())
			_, err := g.Set(b.Context(), w)
			must(b, err)
		}
	})
	b.Run("again", func(b *testing.B) {
		for b.Loop() {
			if changed, err := g.Set(b.Context(), w); err != nil || changed {
				b.Fatal(changed, err)
			}
		}
	})
	b.Run("one source more and less", func(b *testing.B) {
		more := w
		more.NoPort = []Source{{w.VIPs[0], addr(split4)}}
		for i := 0; b.Loop(); i++ {
			next := w
			if i%2 == 0 {
				next = more
			}
			if changed, err := g.Set(b.Context(), next); err != nil || !changed {
				b.Fatal(changed, err)
			}
		}
	})
	for i := range 10_000 {
		w.NoPort = append(w.NoPort, Source{w.VIPs[0], netip.AddrFrom4([4]byte{203, 0, byte(i >> 8), byte(i)})})
	}
	b.Run("again with 10k sources", func(b *testing.B) {
		_, err := g.Set(b.Context(), w)
		must(b, err)
		for b.Loop() {
			if changed, err := g.Set(b.Context(), w); err != nil || changed {
				b.Fatal(changed, err)
			}
		}
	})
	b.Run("counters", func(b *testing.B) {
		for b.Loop() {
			_, _, err := g.Counters()
			must(b, err)
		}
	})
}

// BenchmarkPacket is one packet from a site's socket through IPVS and back, or where the kernel has none to where it would be:
// without the gate and through it, in turns, the fastest turn of each.
func BenchmarkPacket(b *testing.B) {
	const turns = 16
	s := spaces.New(b, 2)
	dir, site := s[0], s[1]
	spaces.Wire(dir, "tun0", site, "eth0")
	dir.Give("tun0", "192.0.2.1/24", "2001:db8::1/64")
	w := large()
	vip4, vip6 := w.VIPs[300].String(), w.VIPs[301].String()
	dir.Give("lo", vip4+"/32", vip6+"/128")
	take(b, vip4, vip6)
	g := openGate(b)
	site.Give("eth0", "192.0.2.2/24", "2001:db8::2/64")
	dir.Route("203.0.113.0/24", "192.0.2.2")
	for _, ike := range [][]byte{from500(known4, vip4), from500(known6, vip6)} { // ESP follows it
		flood(b, site, dir, ike)()
	}
	for _, p := range []struct {
		name   string
		packet []byte
	}{{"UDP4", udp(known4, vip4, 4500)}, {"ESP4", esp(known4, vip4)}, {"UDP6", udp(known6, vip6, 4500)}, {"ESP6", esp(known6, vip6)}} {
		b.Run(p.name, func(b *testing.B) {
			send := flood(b, site, dir, p.packet)
			without, through := time.Hour, time.Hour
			for b.Loop() {
				for range turns {
					must(b, g.Remove())
					without = min(without, send())
					_, err := g.Set(b.Context(), w)
					must(b, err)
					through = min(through, send())
				}
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(without.Nanoseconds()), "ns-without")
			b.ReportMetric(float64(through.Nanoseconds()), "ns-through")
			b.ReportMetric(float64(through)/float64(without), "ratio")
		})
	}
}

// take puts IPVS behind the gate, that forwards to nowhere in particular, or a drop where the kernel has none.
func take(b *testing.B, vip4, vip6 string) {
	h, err := ipvs.New("")
	must(b, err)
	b.Cleanup(h.Close)
	if _, err := os.Stat("/proc/net/ip_vs"); err != nil {
		end := ruleset.New("end", "1")
		end.Counter("taken")
		end.Rule(end.Hook("input", nftables.ChainHookInput, 99), ruleset.Drop("taken"))
		k, err := ruleset.Open(end)
		must(b, err)
		b.Cleanup(func() { k.Close() })
		_, err = k.Keep(b.Context(), nil)
		must(b, err)
		return
	}
	for vip, rs := range map[string]string{vip4: "192.0.2.2", vip6: "2001:db8::2"} {
		serve(b, h, vip, 4500, rs)
		serve(b, h, vip, 500, rs)
	}
}

// flood makes a function that sends a packet many times and tells how long one took.
func flood(b *testing.B, site, dir spaces.Space, packet []byte) func() time.Duration {
	const many = 2000
	to := &unix.SockaddrLinklayer{Halen: 6, Protocol: swap(unix.ETH_P_IP)}
	if packet[0]>>4 == 6 {
		to.Protocol = swap(unix.ETH_P_IPV6)
	}
	dir.Do(func() {
		l, err := netlink.LinkByName("tun0")
		must(b, err)
		copy(to.Addr[:], l.Attrs().HardwareAddr)
	})
	var fd int
	site.Do(func() {
		l, err := netlink.LinkByName("eth0")
		must(b, err)
		to.Ifindex = l.Attrs().Index
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM, 0)
		must(b, err)
	})
	b.Cleanup(func() { unix.Close(fd) })
	return func() time.Duration {
		start := time.Now()
		for range many {
			must(b, unix.Sendto(fd, packet, 0, to))
		}
		return time.Since(start) / many
	}
}
