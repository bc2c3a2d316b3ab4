package probe

import (
	"encoding/binary"
	"net"
	"net/netip"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"tunneldirector/director/agent"
)

// An answer is what a frame says about a question.
type answer struct {
	at     time.Time
	iface  string
	kind   kind // askUDP for IKE too
	src    netip.Addr
	mac    net.HardwareAddr // of a neighbour
	port   uint16           // ours: names the target
	from   uint16           // theirs
	cookie uint32           // as it came back: TCP's acknowledgement less 1, an ICMP error's nonce
	closed bool             // nobody listens
	said   agent.Answer     // by an agent
}

// A parser reads frames. It is reused, by one goroutine.
type parser struct {
	eth     layers.Ethernet
	arp     layers.ARP
	ip4     layers.IPv4
	ip6     layers.IPv6
	icmp4   layers.ICMPv4
	icmp6   layers.ICMPv6
	na      layers.ICMPv6NeighborAdvertisement
	echo6   layers.ICMPv6Echo
	tcp     layers.TCP
	udp     layers.UDP
	decode  *gopacket.DecodingLayerParser
	decoded []gopacket.LayerType
}

func newParser() *parser {
	p := &parser{}
	p.decode = gopacket.NewDecodingLayerParser(layers.LayerTypeEthernet,
		&p.eth, &p.arp, &p.ip4, &p.ip6, &p.icmp4, &p.icmp6, &p.na, &p.echo6, &p.tcp, &p.udp)
	p.decode.IgnoreUnsupported = true
	return p
}

// parse reads a frame; false: it answers nothing.
func (p *parser) parse(frame []byte) (a answer, ok bool) {
	if err := p.decode.DecodeLayers(frame, &p.decoded); err != nil || len(p.decoded) < 2 {
		return a, false
	}
	switch p.decoded[1] {
	case layers.LayerTypeIPv4:
		a.src, _ = netip.AddrFromSlice(p.ip4.SrcIP)
	case layers.LayerTypeIPv6:
		a.src, _ = netip.AddrFromSlice(p.ip6.SrcIP)
	}
	switch p.decoded[len(p.decoded)-1] {
	case layers.LayerTypeARP:
		return p.fromARP()
	case layers.LayerTypeICMPv6NeighborAdvertisement:
		a.kind = askNeighbour
		a.src, ok = netip.AddrFromSlice(p.na.TargetAddress)
		a.mac = clone(p.eth.SrcMAC)
		for _, o := range p.na.Options {
			if o.Type == layers.ICMPv6OptTargetAddress && len(o.Data) == 6 {
				a.mac = clone(o.Data)
			}
		}
		return a, ok
	case layers.LayerTypeICMPv6Echo:
		a.kind, a.port = askEcho, p.echo6.Identifier
		return a, p.icmp6.TypeCode.Type() == layers.ICMPv6TypeEchoReply
	case layers.LayerTypeTCP:
		a.kind, a.port, a.from = askTCP, uint16(p.tcp.DstPort), uint16(p.tcp.SrcPort)
		a.cookie, a.closed = p.tcp.Ack-1, p.tcp.RST
		return a, p.tcp.ACK && (p.tcp.SYN || p.tcp.RST)
	case layers.LayerTypeUDP:
		a.kind, a.port, a.from = askUDP, uint16(p.udp.DstPort), uint16(p.udp.SrcPort)
		if said, err := agent.ParseAnswer(p.udp.Payload); err == nil {
			a.kind, a.said = askAgent, said
		}
		return a, true
	case layers.LayerTypeICMPv4:
		if p.icmp4.TypeCode.Type() == layers.ICMPv4TypeEchoReply {
			a.kind, a.port = askEcho, p.icmp4.Id
			return a, true
		}
		if p.icmp4.TypeCode == layers.CreateICMPv4TypeCode(layers.ICMPv4TypeDestinationUnreachable, layers.ICMPv4CodePort) {
			return quoted4(p.icmp4.Payload)
		}
	case layers.LayerTypeICMPv6:
		if p.icmp6.TypeCode == layers.CreateICMPv6TypeCode(layers.ICMPv6TypeDestinationUnreachable, layers.ICMPv6CodePortUnreachable) && len(p.icmp6.Payload) >= 4 {
			return quoted6(p.icmp6.Payload[4:])
		}
	}
	return a, false
}

func (p *parser) fromARP() (answer, bool) {
	src, ok := netip.AddrFromSlice(p.arp.SourceProtAddress)
	ok = ok && src.Is4() && p.arp.Operation == layers.ARPReply && len(p.arp.SourceHwAddress) == 6
	return answer{kind: askNeighbour, src: src, mac: clone(p.arp.SourceHwAddress)}, ok
}

// quoted4 reads the beginning of our UDP packet out of an ICMP error; src is where that went.
func quoted4(b []byte) (answer, bool) {
	if len(b) < 20 || b[0]>>4 != 4 || b[9] != 17 {
		return answer{}, false
	}
	h := int(b[0]&15) * 4
	if h < 20 || len(b) < h+4 {
		return answer{}, false
	}
	return answer{kind: askUDP, closed: true, src: netip.AddrFrom4([4]byte(b[16:20])), cookie: uint32(binary.BigEndian.Uint16(b[4:])),
		port: binary.BigEndian.Uint16(b[h:]), from: binary.BigEndian.Uint16(b[h+2:])}, true
}

func quoted6(b []byte) (answer, bool) {
	if len(b) < 44 || b[0]>>4 != 6 || b[6] != 17 {
		return answer{}, false
	}
	return answer{kind: askUDP, closed: true, src: netip.AddrFrom16([16]byte(b[24:40])), cookie: binary.BigEndian.Uint32(b) & 0xfffff,
		port: binary.BigEndian.Uint16(b[40:]), from: binary.BigEndian.Uint16(b[42:])}, true
}

func clone(b []byte) net.HardwareAddr { return append(net.HardwareAddr(nil), b...) }

// proves tells whether a really answers q: what came back is what was sent.
func (a answer) proves(q *question, cookie uint32) bool {
	if a.src != q.dst {
		return false
	}
	switch q.kind {
	case askEcho:
		return a.kind == askEcho
	case askTCP:
		return a.kind == askTCP && a.from == q.port && a.cookie == cookie
	case askAgent:
		if a.from != q.port {
			return false
		}
		return a.kind == askAgent || a.kind == askUDP && a.closed && a.quotes(q, cookie)
	case askUDP, askIKE:
		if a.kind != askUDP || a.from != q.port {
			return false
		}
		return !a.closed || a.quotes(q, cookie)
	}
	return false
}

// quotes tells whether an ICMP error is about q.
func (a answer) quotes(q *question, cookie uint32) bool {
	return q.dst.Is4() && a.cookie == uint32(nonce4(cookie)) || q.dst.Is6() && a.cookie == nonce6(cookie)
}
