package planetest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
)

// An expectation is what must become of one frame.
type expectation struct {
	packet  plane.Packet
	want    plane.Decision
	in      []byte
	server  *plane.RealServer // that the frame must go to, and the machine it is on
	host    *Host
	sources []netip.Addr
	caps    Caps
	fits    func(size int) bool // would the packet be forwarded, were it of that size
}

// check holds an outcome against rules 17 and 18.
func (e expectation) check(out Outcome) error {
	switch r := e.want.Reason; {
	case r == plane.None:
		return e.forwarded(out)
	case !r.Drops():
		if out.Verdict == Drop && e.caps.Stack {
			return nil
		}
		if out.Verdict != Pass {
			return fmt.Errorf("verdict %v, want pass", out.Verdict)
		}
		if len(out.Frame) > 0 && !bytes.Equal(out.Frame, e.in) {
			return fmt.Errorf("passed up, but changed: %x became %x", e.in, out.Frame)
		}
	case r == plane.DropTooBig && out.Verdict == TX:
		return e.told(out.Frame)
	case out.Verdict != Drop:
		return fmt.Errorf("verdict %v, want drop", out.Verdict)
	}
	return nil
}

// forwarded takes the frame apart from the outside in.
func (e expectation) forwarded(out Outcome) error {
	if out.Verdict != TX && out.Verdict != Redirect {
		return fmt.Errorf("verdict %v, want tx or redirect", out.Verdict)
	}
	if e.server == nil || e.host == nil {
		return fmt.Errorf("planetest knows no host of real server %d; give Options.Hosts", e.want.RealServer)
	}
	if out.Interface != "" && e.host.Interface != "" {
		if out.Interface != e.host.Interface {
			return fmt.Errorf("left by %s, want %s", out.Interface, e.host.Interface)
		}
		if same := out.Interface == e.packet.Interface; same != (out.Verdict == TX) {
			return fmt.Errorf("verdict %v from %s to %s", out.Verdict, e.packet.Interface, out.Interface)
		}
	}
	before, err := split(e.in)
	if err != nil {
		return err
	}
	after, err := split(out.Frame)
	if err != nil {
		return err
	}
	tag := uint16(0)
	if e.want.Side == plane.SubnetSide {
		tag = e.server.VLANs[e.want.Subnet.Tenant]
	}
	switch {
	case !bytes.Equal(after.dst, e.host.MAC):
		return fmt.Errorf("to MAC %x, want %v", after.dst, e.host.MAC)
	case bytes.Equal(after.src, before.src):
		return fmt.Errorf("the source MAC is still the sender's")
	case after.tag != tag:
		return fmt.Errorf("tag %d, want %d", after.tag, tag)
	}
	if e.server.Method == affinity.IPIP {
		if after.ip, err = e.outer(after.ip, before.ip); err != nil {
			return err
		}
	}
	if want := lessOne(before.ip); !bytes.Equal(after.ip, want) {
		return fmt.Errorf("the IP packet is %x, want %x", after.ip, want)
	}
	return nil
}

// lessOne is ip with TTL or hop limit less one, and the checksum computed anew.
func lessOne(ip []byte) []byte {
	ip = bytes.Clone(ip)
	if ip[0]>>4 == 6 {
		ip[7]--
		return ip
	}
	ip[8]--
	ip[10], ip[11] = 0, 0
	binary.BigEndian.PutUint16(ip[10:], ^sum(0, ip[:int(ip[0]&15)*4]))
	return ip
}

// outer checks the outer header of ip, made for inner, and takes it off.
func (e expectation) outer(ip, inner []byte) ([]byte, error) {
	v4 := inner[0]>>4 == 4
	if ip[0]>>4 != inner[0]>>4 {
		return nil, fmt.Errorf("the outer header is of another IP version: %x", ip)
	}
	dst, ok := addrOf(e.server.Addrs, !v4)
	if !ok {
		return nil, fmt.Errorf("real server %d has no address of that family", e.server.Index)
	}
	head := 40
	if v4 {
		head = 20
	}
	if len(ip) != head+len(inner) {
		return nil, fmt.Errorf("%d bytes of IP with the outer header, want %d: %x", len(ip), head+len(inner), ip)
	}
	src, to := ip[8:24], ip[24:40]
	fields := []field{{"traffic class", int(binary.BigEndian.Uint16(ip) >> 4 & 0xff), int(binary.BigEndian.Uint16(inner) >> 4 & 0xff)},
		{"next header", int(ip[6]), 41}, {"hop limit", int(ip[7]), 64}}
	if v4 {
		src, to = ip[12:16], ip[16:20]
		fields = []field{{"first byte", int(ip[0]), 0x45}, {"TOS", int(ip[1]), int(inner[1])}, {"fragment word", int(binary.BigEndian.Uint16(ip[6:])), 0x4000},
			{"TTL", int(ip[8]), 64}, {"protocol", int(ip[9]), 4}, {"sum over the header", int(sum(0, ip[:20])), 0xffff}}
	}
	for _, f := range fields {
		if e.caps.KernelOuter && slices.Contains([]string{"hop limit", "TTL", "fragment word", "traffic class", "TOS"}, f.name) {
			continue
		}
		if f.got != f.want {
			return nil, fmt.Errorf("outer %s is %#x, want %#x", f.name, f.got, f.want)
		}
	}
	if a, _ := netip.AddrFromSlice(to); a != dst {
		return nil, fmt.Errorf("outer destination %v, want %v", a, dst)
	}
	if a, _ := netip.AddrFromSlice(src); a.IsUnspecified() || e.sources != nil && !slices.Contains(e.sources, a) {
		return nil, fmt.Errorf("outer source %v is none of the director's", a)
	}
	return ip[head:], nil
}

type field struct {
	name      string
	got, want int
}

// told checks the ICMP error that says "too big" to the sender.
func (e expectation) told(frame []byte) error {
	before, err := split(e.in)
	if err != nil {
		return err
	}
	after, err := split(frame)
	if err != nil {
		return err
	}
	v4 := before.ip[0]>>4 == 4
	if v4 && !e.packet.DF {
		return fmt.Errorf("an ICMP error about a packet without DF; want a drop")
	}
	if !bytes.Equal(after.dst, before.src) || after.tag != before.tag {
		return fmt.Errorf("the ICMP error goes to MAC %x tag %d, want %x tag %d", after.dst, after.tag, before.src, before.tag)
	}
	if v4 {
		err = told4(after.ip, before.ip)
	} else {
		err = told6(after.ip, before.ip)
	}
	if err != nil {
		return err
	}
	told := int(binary.BigEndian.Uint16(after.ip[26:])) // of a header of 20 bytes, which told4 has seen to
	if !v4 {
		told = int(binary.BigEndian.Uint32(after.ip[44:]))
	}
	if !e.fits(told) || e.fits(told+1) {
		return fmt.Errorf("the ICMP error tells an MTU of %d; a packet of that size fits: %t, one of a byte more: %t", told, e.fits(told), e.fits(told+1))
	}
	return nil
}

func told4(ip, about []byte) error {
	if ip[0] != 0x45 || len(ip) < 20+8+28 {
		return fmt.Errorf("not an ICMP error without IP options: %x", ip)
	}
	body := ip[20:]
	switch {
	case ip[9] != 1 || body[0] != 3 || body[1] != 4:
		return fmt.Errorf("protocol %d type %d code %d, want ICMP fragmentation needed", ip[9], body[0], body[1])
	case !bytes.Equal(ip[16:20], about[12:16]):
		return fmt.Errorf("the ICMP error goes to %v, want %v", ip[16:20], about[12:16])
	case sum(0, ip[:20]) != 0xffff || sum(0, body) != 0xffff:
		return fmt.Errorf("the ICMP error has a wrong checksum: %x", ip)
	case !bytes.HasPrefix(about, body[8:]):
		return fmt.Errorf("the ICMP error quotes %x, want the beginning of %x", body[8:], about)
	}
	return nil
}

func told6(ip, about []byte) error {
	if ip[0]>>4 != 6 || len(ip) < 40+8+48 || len(ip) > 1280 {
		return fmt.Errorf("not an ICMP error of at most 1280 bytes: %d bytes, %x", len(ip), ip)
	}
	body := ip[40:]
	pseudo := uint32(len(body)) + 58 + uint32(sum(0, ip[8:40]))
	switch {
	case ip[6] != 58 || body[0] != 2:
		return fmt.Errorf("next header %d type %d, want ICMPv6 packet too big", ip[6], body[0])
	case !bytes.Equal(ip[24:40], about[8:24]):
		return fmt.Errorf("the ICMP error goes to %x, want %x", ip[24:40], about[8:24])
	case sum(pseudo, body) != 0xffff:
		return fmt.Errorf("the ICMP error has a wrong checksum: %x", ip)
	case !bytes.HasPrefix(about, body[8:]):
		return fmt.Errorf("the ICMP error quotes %x, want the beginning of %x", body[8:], about)
	}
	return nil
}
