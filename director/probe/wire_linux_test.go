package probe

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tunneldirector/affinity"
	"tunneldirector/director/agent"
	"tunneldirector/integration/spaces"
)

// lab: a director that holds the VIPs and reaches one real server by rs0. The real server holds the VIPs on lo.
func lab(t testing.TB) (dir, rs spaces.Space) {
	s := spaces.New(t, 2)
	dir, rs = s[0], s[1]
	spaces.Wire(dir, "rs0", rs, "eth0")
	dir.Give("rs0", "192.0.2.1/24")
	dir.Give("rs0", "2001:db8::1/64")
	rs.Give("eth0", "192.0.2.11/24")
	rs.Give("eth0", "2001:db8::11/64")
	for _, s := range []spaces.Space{dir, rs} {
		s.Give("lo", "198.51.100.1/32")
		s.Give("lo", "2001:db8:1::1/128")
	}
	return dir, rs
}

// start probes targets until the test ends.
func start(t testing.TB, cfg Config, targets ...Target) *Prober {
	t.Helper()
	cfg.Interfaces = append(cfg.Interfaces, "rs0")
	p, err := Open(cfg, slog.New(slog.DiscardHandler))
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	p.Set(targets)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("prober: %v", err)
		}
	})
	return p
}

// quick is a fast prober; slack is how many intervals a test waits for an event that DeadAfter promises in 4.7: a machine is busy.
var quick = Config{Interval: 50 * time.Millisecond}

const slack = 200

// await waits for the next event: slack intervals, and the silence that a UDP port needs to come back.
func await(t testing.TB, p *Prober, alive bool, cause string) {
	t.Helper()
	wait := slack * p.cfg.Interval
	if alive {
		wait += returnSilence
	}
	select {
	case e := <-p.Events():
		if e.Alive != alive || !strings.Contains(e.Cause, cause) {
			t.Fatalf("event %+v; want alive %v because of %q", e, alive, cause)
		}
		if alive && (e.RTT <= 0 || len(e.MAC) != 6) {
			t.Errorf("event %+v lacks RTT or MAC", e)
		}
	case <-time.After(wait):
		t.Fatalf("no event within %v; want alive %v because of %q", wait, alive, cause)
	}
}

func quiet(t testing.TB, p *Prober, intervals int) {
	t.Helper()
	select {
	case e := <-p.Events():
		t.Fatalf("unexpected event %+v", e)
	case <-time.After(time.Duration(intervals) * p.cfg.Interval):
	}
}

func aim(addrs []string, proto uint8, port uint16) Target {
	tg := Target{Index: 7, Name: "rs1", VIPs: []netip.Addr{vip4, vip6}, Check: affinity.Check{Proto: proto, Port: port}}
	for _, a := range addrs {
		tg.Addrs = append(tg.Addrs, netip.MustParseAddr(a))
	}
	return tg
}

var bothAddrs = []string{"192.0.2.11", "2001:db8::11"}

func TestWireNeighbours(t *testing.T) {
	for name, addrs := range map[string][]string{"IPv4": bothAddrs[:1], "IPv6": bothAddrs[1:], "both": bothAddrs} {
		t.Run(name, func(t *testing.T) {
			_, rs := lab(t)
			p := start(t, quick, aim(addrs, 0, 0))
			if l := <-p.Links(); l.Interface != "rs0" || !l.Up {
				t.Errorf("link %+v", l)
			}
			await(t, p, true, "answered")
			rs.Down("eth0")
			if l := <-p.Links(); l.Up {
				t.Errorf("link %+v, want down", l)
			}
			await(t, p, false, "rs0 is down") // no carrier
			rs.Up("eth0")
			if l := <-p.Links(); !l.Up {
				t.Errorf("link %+v, want up", l)
			}
			if name == "IPv4" {
				await(t, p, true, "answered")
				take(rs, "eth0", "192.0.2.11/24") // silent, with carrier
				await(t, p, false, "no answer to ARP for 192.0.2.11")
				rs.Give("eth0", "192.0.2.11/24")
				await(t, p, true, "answered")
			}
		})
	}
}

func TestWireTCP(t *testing.T) {
	_, rs := lab(t)
	l4, l6 := serveTCP(rs, "198.51.100.1:443"), serveTCP(rs, "[2001:db8:1::1]:443")
	p := start(t, quick, aim(bothAddrs[:1], 6, 443))
	await(t, p, true, "tcp to [2001:db8:1::1]:443 answered")
	quiet(t, p, 20)
	rs.Do(func() {
		for _, path := range []string{"/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"} {
			b, err := os.ReadFile(path)
			must(t, err)
			// State 03 is SYN_RECV, 01 established: nothing may pile up but what is on its way.
			if n := strings.Count(string(b), " 03 ") + strings.Count(string(b), " 01 "); n > 1 {
				t.Errorf("%s shows %d connections of probes:\n%s", path, n, b)
			}
		}
	})
	l6.Close()
	await(t, p, false, "tcp to [2001:db8:1::1]:443: port closed")
	l4.Close()
}

func TestWireUDP(t *testing.T) {
	_, rs := lab(t)
	c := serveUDP(rs, "198.51.100.1:51820", "")
	d := serveUDP(rs, "[2001:db8:1::1]:51820", "")
	p := start(t, quick, aim(bothAddrs[:1], 17, 51820))
	await(t, p, true, "ARP") // silence proves nothing
	quiet(t, p, 20)
	c.Close()
	await(t, p, false, "udp to 198.51.100.1:51820: port closed")
	quiet(t, p, 40) // though the port unreachables have become one a second
	d.Close()
}

func TestWireUDPClosedIPv6(t *testing.T) {
	_, rs := lab(t)
	serveUDP(rs, "198.51.100.1:51820", "")
	p := start(t, quick, aim(bothAddrs[1:], 17, 51820))
	await(t, p, false, "udp to [2001:db8:1::1]:51820: port closed")
}

func TestWireIKE(t *testing.T) {
	_, rs := lab(t)
	serveUDP(rs, "198.51.100.1:500", "INVALID_MAJOR_VERSION")
	serveUDP(rs, "[2001:db8:1::1]:500", "INVALID_MAJOR_VERSION")
	p := start(t, quick, aim(bothAddrs, 17, 500))
	await(t, p, true, "udp to [2001:db8:1::1]:500 answered")
	quiet(t, p, 10) // both have answered by now
	// The VIP leaves the real server: a port that used to answer is silent, the host is not.
	take(rs, "lo", "198.51.100.1/32")
	await(t, p, false, "no answer to udp to 198.51.100.1:500")
}

func TestWireWrongVIP(t *testing.T) {
	_, rs := lab(t)
	serveTCP(rs, "192.0.2.11:443")
	take(rs, "lo", "198.51.100.1/32")
	tg := aim(bothAddrs, 6, 443)
	tg.VIPs = tg.VIPs[:1]
	p := start(t, quick, tg)
	await(t, p, false, "no answer to tcp to 198.51.100.1:443")
}

func TestWireTunnel(t *testing.T) {
	s := spaces.New(t, 3)
	dir, rs, router := s[0], s[1], s[2]
	spaces.Wire(dir, "rs0", router, "left")
	spaces.Wire(router, "right", rs, "eth0")
	dir.Give("rs0", "192.0.2.1/24")
	router.Give("left", "192.0.2.254/24")
	router.Give("right", "203.0.113.254/24")
	router.Sysctl("net/ipv4/ip_forward", "1")
	rs.Give("eth0", "203.0.113.9/24")
	for s, gw := range map[spaces.Space]string{dir: "192.0.2.254", rs: "203.0.113.254"} {
		s.Do(func() {
			must(t, netlink.RouteAdd(&netlink.Route{Gw: netip.MustParseAddr(gw).AsSlice()}))
		})
	}
	tg := aim([]string{"203.0.113.9"}, 17, 500)
	tg.Method = affinity.IPIP
	p := start(t, quick, tg)
	await(t, p, true, "ICMP echo to 203.0.113.9 answered")
	rs.Down("eth0")
	await(t, p, false, "no answer to ICMP echo to 203.0.113.9")
}

// An agent answers on the wire, in both families, through the filter on the socket.
func TestWireAgent(t *testing.T) {
	_, rs := lab(t)
	c4, c6 := serveAgent(rs, netip.AddrPortFrom(vip4, 7461)), serveAgent(rs, netip.AddrPortFrom(vip6, 7461))
	tg := aim(bothAddrs[:1], 0, 0)
	tg.Agent, tg.AgentUp = 7461, true
	cfg := quick
	cfg.Heard = func(string) time.Time { return time.Now() }
	p := start(t, cfg, tg)
	await(t, p, true, "agent at [2001:db8:1::1]:7461 answered: working")
	quiet(t, p, int(agentGrace/cfg.Interval)+1)
	take(rs, "lo", "2001:db8:1::1/128")
	await(t, p, false, "agent at [2001:db8:1::1]:7461: no answer on the data path")
	rs.Give("lo", "2001:db8:1::1/128")
	await(t, p, true, "answered: working")
	c4.Close()
	c6.Close()
	quiet(t, p, 40) // nobody listens there any more: as if there were no agent
}

// What the director's own stack makes of the answers must not get out: it holds the VIP, and accept_local lets it see them.
func TestWireNoInterference(t *testing.T) {
	for _, accept := range []string{"0", "1"} {
		t.Run("accept_local "+accept, func(t *testing.T) {
			dir, rs := lab(t)
			dir.Sysctl("net/ipv4/conf/rs0/accept_local", accept)
			dir.Sysctl("net/ipv4/ip_forward", "1")
			serveTCP(rs, "198.51.100.1:443")
			serveTCP(rs, "[2001:db8:1::1]:443")
			var c *packet.Conn
			rs.Do(func() {
				ifi, err := net.InterfaceByName("eth0")
				must(t, err)
				c, err = packet.Listen(ifi, packet.Raw, unix.ETH_P_ALL, nil)
				must(t, err)
				must(t, c.SetReadDeadline(time.Now().Add(60*quick.Interval)))
			})
			defer c.Close()
			p := start(t, quick, aim(bothAddrs[:1], 6, 443))
			await(t, p, true, "tcp to")
			counts := map[string]int{}
			for buf := make([]byte, 2048); ; {
				n, from, err := c.ReadFrom(buf)
				if err != nil {
					break
				}
				if l, err := net.InterfaceByName("rs0"); err != nil || from.String() != l.HardwareAddr.String() {
					continue
				}
				counts[describe(buf[:n])]++
			}
			for what, n := range counts {
				switch {
				case what == "ARP", what == "neighbour discovery":
				case what == "SYN" || what == "RST":
					if counts["SYN"]-counts["RST"] > 2 || counts["RST"] > counts["SYN"] || n < 20 {
						t.Errorf("sent: %v; want as many RST as SYN, in both families", counts)
					}
				default:
					t.Errorf("the director sent %d of %s", n, what)
				}
			}
			if counts["SYN"] == 0 {
				t.Errorf("sent: %v; no SYN seen", counts)
			}
		})
	}
}

// describe names a frame as the test above wants it.
func describe(frame []byte) string {
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
	if l, ok := p.Layer(layers.LayerTypeTCP).(*layers.TCP); ok {
		switch {
		case l.SrcPort != PortBase+7 || l.DstPort != 443:
		case l.SYN && !l.ACK && !l.RST:
			return "SYN"
		case l.RST && !l.ACK:
			return "RST"
		}
		return p.String()
	}
	if l, ok := p.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6); ok && l.TypeCode.Type() >= 130 {
		return "neighbour discovery" // and multicast listener reports
	}
	if p.Layer(layers.LayerTypeARP) != nil {
		return "ARP"
	}
	return p.String()
}

// BenchmarkCost prints the share of a core that 256 real servers at 5 rounds a second cost. On veth that includes what the
// real server's kernel does with a probe, as it does it inside our send.
func BenchmarkCost(b *testing.B) {
	b.Run("neighbour", func(b *testing.B) { cost(b, 256, affinity.Check{}) })
	b.Run("neighbour and udp", func(b *testing.B) { cost(b, 256, affinity.Check{Proto: 17, Port: 51820}) })
	b.Run("neighbour and agent", func(b *testing.B) { cost(b, 256, affinity.Check{}, agent.DefaultProbe) })
	b.Run("nobody", func(b *testing.B) { cost(b, 0, affinity.Check{}) })
}

func cost(b *testing.B, n int, check affinity.Check, agents ...uint16) {
	dir, rs := lab(b)
	_ = dir
	rs.Do(func() { // open and never read, so that its cost is not counted
		c, err := net.ListenPacket("udp", "198.51.100.1:51820")
		must(b, err)
		b.Cleanup(func() { c.Close() })
	})
	for _, port := range agents { // in this process, so that its cost is counted
		serveAgent(rs, netip.AddrPortFrom(vip4, port))
	}
	var targets []Target
	for i := range n {
		a := netip.AddrFrom4([4]byte{10, 9, byte(i >> 7), byte(i&127 + 2)})
		rs.Give("eth0", a.String()+"/16")
		targets = append(targets, Target{Index: affinity.Index(i + 1), Addrs: []netip.Addr{a}, VIPs: []netip.Addr{vip4}, Check: check})
		for _, port := range agents {
			targets[i].Agent, targets[i].AgentUp = port, true
		}
	}
	dir.Give("rs0", "10.9.255.1/16")
	p := start(b, Config{}, targets...)
	go func() {
		for range p.Links() {
		}
	}()
	for range targets {
		if e := <-p.Events(); !e.Alive {
			b.Fatalf("%+v", e)
		}
	}
	before, from := cpuTime(b), time.Now()
	for b.Loop() {
		time.Sleep(time.Second)
	}
	b.ReportMetric(100*float64(cpuTime(b)-before)/float64(time.Since(from)), "%core")
}

// Eight real servers on one kernel, which has one port unreachable a second for all of them (net.ipv4.icmp_ratelimit).
func TestWireClosedPortsOfOneHost(t *testing.T) {
	const n = 8
	_, rs := lab(t)
	var targets []Target
	for i := range n {
		a := netip.AddrFrom4([4]byte{192, 0, 2, byte(20 + i)})
		rs.Give("eth0", a.String()+"/24")
		targets = append(targets, Target{Index: affinity.Index(i + 1), Name: "rs", Addrs: []netip.Addr{a}, VIPs: []netip.Addr{vip4},
			Check: affinity.Check{Proto: 17, Port: wireguard}})
	}
	p := start(t, Config{}, targets...)
	want(t, until(p, n, 30*time.Second), n, false)
	if said := during(p, 8*time.Second); len(said) != 0 {
		t.Fatalf("flapped: %v", said)
	}
	c := serveUDP(rs, "198.51.100.1:51820", "")
	want(t, until(p, n, 30*time.Second), n, true)
	c.Close()
	want(t, until(p, n, 30*time.Second), n, false)
}
