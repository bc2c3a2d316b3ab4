package probe

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/net/bpf"

	"tunneldirector/affinity"
	"tunneldirector/director/agent"
)

var (
	vip4 = netip.MustParseAddr("198.51.100.1")
	vip6 = netip.MustParseAddr("2001:db8:1::1")
	dir4 = netip.MustParseAddr("192.0.2.1")
	dir6 = netip.MustParseAddr("2001:db8::1")
	rs4  = netip.MustParseAddr("192.0.2.11")
	rs6  = netip.MustParseAddr("2001:db8::11")
	ours = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	rs   = net.HardwareAddr{2, 0, 0, 0, 0, 11}
)

func TestMachine(t *testing.T) {
	cfg, err := Config{}.complete()
	if err != nil {
		t.Fatal(err)
	}
	outcomes := map[rune]outcome{'v': void, 'a': answered, 's': silent, 'm': missed, 'c': closed, 't': told}
	for _, tt := range []struct{ name, rounds, want string }{
		{"comes up", "aaaaa", "..A.."},
		{"a gap at first", "aamaaa", ".....A"},
		{"dies", "aaammmmm", "..A...D."},
		{"three are not enough", "aaammmammma", "..A........"},
		{"closed and missed together", "aaamccm", "..A...D"},
		{"silence is slow", "aaassssssssss", "..A.........D"},
		{"silence and a miss", "aaasssmsmssss", "..A.........D"},
		{"returns", "mmmmaaa", "...D..A"},
		{"dead from the start", "mmmm", "...D"},
		{"our own fault counts for nothing", "aavammmvvvm", "...A......D"},
		{"told twice", "aaatt", "..A.D"},
		{"told once", "aaatatatat", "..A......."},
		{"told, and our own fault", "aaatvt", "..A..D"},
		{"told and missed", "aaatmmm", "..A...D"},
		{"told and silent", "aaatssssss", "..A......."},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var m machine
			var got strings.Builder
			for _, r := range tt.rounds {
				switch changed := m.step(result{outcome: outcomes[r]}, cfg); {
				case changed && m.verdict == alive:
					got.WriteByte('A')
				case changed && m.verdict == dead:
					got.WriteByte('D')
				default:
					got.WriteByte('.')
				}
			}
			if got.String() != tt.want {
				t.Errorf("rounds  %s\nverdict %s\nwant    %s", tt.rounds, got.String(), tt.want)
			}
		})
	}
}

func TestJudge(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	host := question{kind: askNeighbour, dst: rs4, required: true, sent: now, answered: true}
	with := func(q question, f func(*question)) *question { f(&q); return &q }
	udp := question{kind: askUDP, dst: vip4, port: 51820, sent: now, udp: &udpPort{belief: heard}}
	tcp := question{kind: askTCP, dst: vip4, port: 443, sent: now, required: true}
	said := func(o opinion, problem string) *question {
		return &question{kind: askAgent, dst: vip4, port: 7461, word: &word{opinion: o, problem: problem, row: 5, rtt: map[bool]time.Duration{true: 1}[o == vouched || o == pending]}}
	}
	silentTCP := with(tcp, func(q *question) { q.dst = vip6 })
	doubtedUDP := with(udp, func(q *question) { q.udp = &udpPort{} })
	for _, tt := range []struct {
		name  string
		qs    []*question
		want  outcome
		cause string
	}{
		{"agent works", []*question{&host, said(vouched, "working")}, answered, "agent at 198.51.100.1:7461 answered: working"},
		{"agent works, its port is silent", []*question{&host, &tcp, said(vouched, "working")}, answered, "agent"},
		{"agent works, its port is in doubt", []*question{&host, doubtedUDP, said(vouched, "working")}, answered, "agent"},
		{"agent works, its port is closed", []*question{&host, with(udp, func(q *question) { q.udp = &udpPort{belief: refused} }), said(vouched, "working")}, closed, "port closed"},
		{"agent works, another VIP is silent", []*question{&host, silentTCP, said(vouched, "working")}, silent, "tcp to [2001:db8:1::1]:443"},
		{"agent works, host silent", []*question{with(host, func(q *question) { q.answered = false }), said(vouched, "working")}, answered, "agent"},
		{"agent works, host silent, by another way", []*question{with(host, func(q *question) { q.answered, q.hop = false, rs4 }), said(vouched, "working")}, missed, "ARP"},
		{"agent works, echo of another family silent", []*question{with(host, func(q *question) { q.answered, q.kind, q.dst = false, askEcho, rs6 }), said(vouched, "working")}, missed, "ICMP"},
		{"agent says dead", []*question{&host, with(tcp, func(q *question) { q.answered = true }), said(accused, "dead")}, told, "agent at 198.51.100.1:7461 answered: dead"},
		{"agent does not know", []*question{&host, with(tcp, func(q *question) { q.answered = true }), said(pending, "unknown")}, void, "agent at 198.51.100.1:7461: unknown"},
		{"agent does not know, its port is silent", []*question{&host, &tcp, said(pending, "unknown")}, silent, "tcp to"},
		{"agent does not know, host silent", []*question{with(host, func(q *question) { q.answered = false }), said(pending, "unknown")}, void, "unknown"},
		{"agent's answers are lost, host silent", []*question{with(host, func(q *question) { q.answered = false }), said(noWord, "")}, missed, "ARP"},
		{"agent's answers are lost", []*question{&host, said(lost, "no answer on the data path")}, missed, "agent at 198.51.100.1:7461: no answer on the data path"},
		{"no word", []*question{&host, said(noWord, "never answered")}, answered, "ARP for 192.0.2.11 answered"},
		{"no word, its port is silent", []*question{&host, &tcp, said(noWord, "")}, silent, "tcp to"},
		{"host alone", []*question{&host}, answered, "ARP for 192.0.2.11 answered"},
		{"host silent", []*question{with(host, func(q *question) { q.answered = false })}, missed, "no answer to ARP"},
		{"UDP silent", []*question{&host, &udp}, answered, "ARP"},
		{"UDP that used to answer", []*question{&host, with(udp, func(q *question) { q.ever = true })}, silent, "udp to 198.51.100.1:51820"},
		{"UDP answers", []*question{&host, with(udp, func(q *question) { q.answered = true })}, answered, "udp to"},
		{"UDP closed", []*question{&host, with(udp, func(q *question) { q.udp = &udpPort{belief: refused} })}, closed, "port closed"},
		{"UDP in doubt", []*question{&host, with(udp, func(q *question) { q.udp = &udpPort{} })}, void, "not known yet"},
		{"UDP in doubt, host silent", []*question{with(host, func(q *question) { q.answered = false }), with(udp, func(q *question) { q.udp = &udpPort{} })}, missed, "ARP"},
		{"UDP closed, host silent", []*question{with(host, func(q *question) { q.answered = false }), with(udp, func(q *question) { q.udp = &udpPort{belief: refused} })}, missed, "ARP"},
		{"UDP closed and in doubt", []*question{&host, with(udp, func(q *question) { q.udp = &udpPort{} }), with(udp, func(q *question) { q.udp = &udpPort{belief: refused} })}, closed, "port closed"},
		{"TCP closed lately", []*question{&host, with(tcp, func(q *question) { q.closedAt = now.Add(-closedHold) })}, closed, "port closed"},
		{"TCP closed long ago", []*question{&host, with(tcp, func(q *question) { q.closedAt = now.Add(-closedHold - 1) })}, silent, "tcp to"},
		{"TCP silent", []*question{&host, &tcp}, silent, "tcp to 198.51.100.1:443"},
		{"TCP not sent, MAC unknown", []*question{&host, with(tcp, func(q *question) { q.sent = time.Time{} })}, void, "MAC address"},
		{"host silent, TCP not sent", []*question{with(host, func(q *question) { q.answered = false }), with(tcp, func(q *question) { q.sent = time.Time{} })}, missed, "ARP"},
		{"no carrier", []*question{with(host, func(q *question) { q.answered, q.problem = false, "interface rs0 is down" })}, missed, "rs0 is down"},
		{"nothing", nil, missed, "no address"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if r := judge(tt.qs, now); r.outcome != tt.want || !strings.Contains(r.cause(), tt.cause) {
				t.Errorf("judged %d %q, want %d with %q", r.outcome, r.cause(), tt.want, tt.cause)
			}
		})
	}
}

func labView() view {
	gw := netip.MustParseAddr("192.0.2.254")
	far := netip.MustParseAddr("203.0.113.9")
	return view{
		ifaces: map[string]*iface{"rs0": {name: "rs0", index: 2, mac: ours, up: true,
			addrs: []netip.Prefix{netip.PrefixFrom(dir4, 24), netip.PrefixFrom(dir6, 64), netip.MustParsePrefix("fe80::1/64")}}},
		hops: map[netip.Addr]hop{rs4: {iface: "rs0", via: rs4}, rs6: {iface: "rs0", via: rs6}, far: {iface: "rs0", via: gw}},
	}
}

func TestPlan(t *testing.T) {
	far := netip.MustParseAddr("203.0.113.9")
	both := []netip.Addr{vip4, vip6}
	for _, tt := range []struct {
		name   string
		target Target
		want   []string
	}{
		{"neighbour alone", Target{Addrs: []netip.Addr{rs4}, VIPs: both}, []string{"ARP for 192.0.2.11 from 192.0.2.1"}},
		{"dr reaches both families", Target{Addrs: []netip.Addr{rs6}, VIPs: both, Check: affinity.Check{Proto: 17, Port: 500}},
			[]string{"neighbour solicitation for 2001:db8::11 from 2001:db8::1", "udp to 198.51.100.1:500 from 192.0.2.1", "udp to [2001:db8:1::1]:500 from 2001:db8::1"}},
		{"tunnel needs the family", Target{Addrs: []netip.Addr{rs4}, VIPs: both, Method: affinity.IPIP, Check: affinity.Check{Proto: 6, Port: 443}},
			[]string{"ARP for 192.0.2.11 from 192.0.2.1", "tcp to 198.51.100.1:443 from 192.0.2.1"}},
		{"behind a router", Target{Addrs: []netip.Addr{far}, Method: affinity.IPIP},
			[]string{"ARP for 192.0.2.254 from 192.0.2.1", "ICMP echo to 203.0.113.9 from 192.0.2.1"}},
		{"dr behind a router", Target{Addrs: []netip.Addr{far}},
			[]string{"ARP for 192.0.2.254 from 192.0.2.1", "ICMP echo to 203.0.113.9 from 192.0.2.1: forwarding method dr needs it on one of our segments, and it is behind 192.0.2.254"}},
		{"agent", Target{Addrs: []netip.Addr{rs4}, VIPs: both, Agent: 7461},
			[]string{"ARP for 192.0.2.11 from 192.0.2.1", "agent at 198.51.100.1:7461 from 192.0.2.1", "agent at [2001:db8:1::1]:7461 from 2001:db8::1"}},
		{"agent and port, tunnel needs the family", Target{Addrs: []netip.Addr{rs6}, VIPs: both, Method: affinity.IPIP, Check: affinity.Check{Proto: 6, Port: 443}, Agent: 7461},
			[]string{"neighbour solicitation for 2001:db8::11 from 2001:db8::1", "tcp to [2001:db8:1::1]:443 from 2001:db8::1", "agent at [2001:db8:1::1]:7461 from 2001:db8::1"}},
		{"under masq it holds no VIP", Target{Addrs: []netip.Addr{rs4}, VIPs: both, Method: affinity.Masq, Agent: 7461}, []string{"ARP for 192.0.2.11 from 192.0.2.1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, q := range plan(tt.target, labView()) {
				s := q.String() + " from " + q.src.String()
				if q.problem != "" {
					s += ": " + q.problem
				}
				got = append(got, s)
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

// answersOf are frames that answer probes from dir4 and dir6, by name.
func answersOf(t testing.TB) map[string][]byte {
	t.Helper()
	back := envelope{mac: rs, to: ours, port: 51820, cookie: 0x1234567}
	m := map[string][]byte{}
	add := func(name string, b []byte, err error) {
		if err != nil {
			t.Fatal(err)
		}
		m[name] = b
	}
	for fam, a := range map[string][2]netip.Addr{"4": {vip4, dir4}, "6": {vip6, dir6}} {
		q := &question{src: a[0], dst: a[1], port: PortBase + 7}
		b, err := back.udp(q, []byte("x"))
		add("udp"+fam, b, err)
		b, err = envelope{mac: rs, to: ours, port: agent.DefaultProbe}.udp(q, agent.Answer{Nonce: agent.Nonce{9}, Health: agent.HealthHeadless, RealServer: "rs1"}.Append(nil))
		add("agent"+fam, b, err)
		b, err = back.tcp(q, &layers.TCP{SYN: true, ACK: true, Ack: 0x1234568})
		add("tcp"+fam, b, err)
		b, err = back.udp(&question{src: a[0], dst: a[1], port: 4500}, nil)
		add("user"+fam, b, err)
	}
	b, err := serialize(&layers.Ethernet{SrcMAC: rs, DstMAC: ours, EthernetType: layers.EthernetTypeARP},
		&layers.ARP{AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4, Operation: layers.ARPReply,
			SourceHwAddress: rs, SourceProtAddress: rs4.AsSlice(), DstHwAddress: ours, DstProtAddress: dir4.AsSlice()})
	add("arp", b, err)
	b, err = neighbour(&question{dst: dir4, src: rs4}, rs, ours)
	add("arp request", b, err)
	return m
}

func TestFilter(t *testing.T) {
	many := make([]netip.Addr, maxFiltered+1)
	for i := range many {
		many[i] = netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})
	}
	strange := []netip.Addr{netip.MustParseAddr("192.0.2.99"), netip.MustParseAddr("2001:db8::99")}
	frames := answersOf(t)
	pass := func(mac net.HardwareAddr, own []netip.Addr, frame []byte) bool {
		raw, err := filter(mac, own)
		if err != nil {
			t.Fatal(err)
		}
		prog, ok := bpf.Disassemble(raw)
		if !ok {
			t.Fatal("the program cannot be read back")
		}
		vm, err := bpf.NewVM(prog)
		if err != nil {
			t.Fatal(err)
		}
		n, err := vm.Run(frame)
		if err != nil {
			t.Fatal(err)
		}
		return n > 0
	}
	full := append(append([]netip.Addr{}, many[:maxFiltered-1]...), dir4, dir6)
	for name, frame := range frames {
		own := name != "user4" && name != "user6" && name != "arp request"
		for _, tt := range []struct {
			name string
			mac  net.HardwareAddr
			own  []netip.Addr
			want bool
		}{
			{"ours", ours, []netip.Addr{dir4, dir6}, own},
			{"among many", ours, full, own},
			{"another's MAC", rs, []netip.Addr{dir4, dir6}, false},
			{"another's address", ours, strange, name == "arp"},
			{"no address", ours, nil, name == "arp"},
		} {
			if got := pass(tt.mac, tt.own, frame); got != tt.want {
				t.Errorf("%s, %s: passes %v, want %v", name, tt.name, got, tt.want)
			}
		}
	}
	if !pass(ours, many, frames["udp4"]) {
		t.Error("more addresses than the filter takes, and it closed")
	}
}

func FuzzParse(f *testing.F) {
	for _, b := range answersOf(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		a, ok := newParser().parse(b)
		if ok && !a.src.IsValid() {
			t.Errorf("an answer from nobody: %+v", a)
		}
	})
}

func TestFrameIPIP(t *testing.T) {
	for _, a := range [][4]netip.Addr{{vip4, dir4, rs4, dir4}, {vip6, dir6, rs6, dir6}} {
		tg := Target{Index: 7, Addrs: []netip.Addr{rs4, rs6}, Method: affinity.IPIP}
		q := &question{kind: askIKE, dst: a[0], src: a[1], port: 4500}
		e := envelope{mac: ours, to: rs, port: PortBase + 7, cookie: 5, outer: tg.outerAddr(q), local: a[3]}
		b, err := e.packet(q)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		p := gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.Default)
		for _, l := range p.Layers() {
			if n, ok := l.(gopacket.NetworkLayer); ok {
				got = append(got, n.NetworkFlow().String())
			}
		}
		want := []string{a[3].String() + "->" + a[2].String(), a[1].String() + "->" + a[0].String()}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
		u, ok := p.Layer(layers.LayerTypeUDP).(*layers.UDP)
		if !ok || u.SrcPort != PortBase+7 || len(u.Payload) != 32 || u.Payload[4+17] != 0x30 {
			t.Errorf("inside: %+v; want IKE of version 3 after the non-ESP marker", u)
		}
		if echo, err := e.packet(&question{kind: askEcho, dst: a[2], src: a[1]}); err != nil || len(echo) > 14+40+8+4 {
			t.Errorf("echo of %d bytes (%v): it must not be inside IPIP", len(echo), err)
		}
	}
}

func TestConfigRefuses(t *testing.T) {
	for name, c := range map[string]Config{
		"interval":   {Interval: time.Millisecond},
		"timeout":    {Timeout: time.Second},
		"thresholds": {SilentAfter: 2},
	} {
		if _, err := c.complete(); err == nil {
			t.Errorf("%s accepted", name)
		}
	}
}
