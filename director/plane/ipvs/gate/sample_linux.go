package gate

import (
	"encoding/binary"
	"slices"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"tunneldirector/director/plane"
	"tunneldirector/director/plane/frame"
)

// Attributes of a logged packet, of linux/netfilter/nfnetlink_log.h.
const (
	attrHeader    = 1 // EtherType, hook
	attrTimestamp = 3 // seconds, microseconds
	attrIndex     = 4 // of the interface that it came in by
	attrPayload   = 9 // from the IP header on
	attrPrefix    = 10
	attrHardware  = 15 // kind of the interface
	attrLink      = 16 // header of the link layer
)

const ethernet = 14 // bytes of its header

// A logged packet is what the kernel says of it.
type logged struct {
	at        time.Time
	index     uint32
	etherType uint16
	hook      byte
	word      string
	hardware  uint16
	link      []byte
	payload   []byte
}

// parse reads a message of nfnetlink_log, but for its netlink header.
func parse(data []byte) (p logged, ok bool) {
	const generic = 4 // struct nfgenmsg
	if len(data) < generic {
		return p, false
	}
	d, err := netlink.NewAttributeDecoder(data[generic:])
	if err != nil {
		return p, false
	}
	d.ByteOrder = binary.BigEndian
	for d.Next() {
		switch b := d.Bytes(); d.Type() {
		case attrHeader:
			if len(b) >= 3 {
				p.etherType, p.hook = binary.BigEndian.Uint16(b), b[2]
			}
		case attrTimestamp:
			if len(b) == 16 {
				p.at = time.Unix(int64(binary.BigEndian.Uint64(b)), int64(binary.BigEndian.Uint64(b[8:]))*int64(time.Microsecond))
			}
		case attrIndex:
			p.index = d.Uint32()
		case attrPayload:
			p.payload = b
		case attrPrefix:
			p.word = d.String()
		case attrHardware:
			p.hardware = d.Uint16()
		case attrLink:
			p.link = b
		}
	}
	return p, d.Err() == nil && len(p.payload) > 0
}

// sample is the Sample of a message; ok is false if the message is no packet of ours.
func (l *Log) sample(data []byte) (s plane.Sample, ok bool) {
	p, ok := parse(data)
	if !ok {
		return s, false
	}
	s = plane.Sample{At: p.at, Watched: p.word == wordWatched, Interface: l.name(p.index)}
	if s.At.IsZero() {
		s.At = time.Now()
	}
	if !s.Watched {
		i := slices.IndexFunc(drops, func(d drop) bool { return d.reason.String() == p.word })
		if i < 0 {
			return s, false
		}
		s.Reason, s.Side = drops[i].reason, plane.TunnelSide
	}
	switch p.hook {
	case unix.NF_INET_FORWARD:
		s.Side = plane.SubnetSide
	case unix.NF_INET_POST_ROUTING:
		s.Side = plane.NoSide
	case unix.NF_INET_LOCAL_OUT:
		if p.payload = quoted(p.payload); len(p.payload) == 0 {
			return s, false
		}
	}
	s.Head, s.Length = p.frame()
	return s, true
}

// name is an interface's, by the socket that reads the log: it is in the right network namespace.
func (l *Log) name(index uint32) (name string) {
	raw, err := l.conn.SyscallConn()
	if err != nil || index == 0 {
		return ""
	}
	r, err := unix.NewIfreq("")
	if err != nil {
		return ""
	}
	r.SetUint32(index)
	controlled := raw.Control(func(fd uintptr) { err = unix.IoctlIfreq(int(fd), unix.SIOCGIFNAME, r) })
	if controlled != nil || err != nil {
		return ""
	}
	return r.Name()
}

// quoted is the packet that an ICMP error is about.
func quoted(packet []byte) []byte {
	first := layers.LayerTypeIPv4
	if packet[0]>>4 == 6 {
		first = layers.LayerTypeIPv6
	}
	p := gopacket.NewPacket(packet, first, gopacket.DecodeOptions{Lazy: true, NoCopy: true})
	if e := p.Layer(layers.LayerTypeICMPv4); e != nil {
		return e.LayerPayload()
	}
	if e := p.Layer(layers.LayerTypeICMPv6); e != nil && len(e.LayerPayload()) > 4 {
		return e.LayerPayload()[4:]
	}
	return nil
}

// frame is the packet behind an Ethernet header, whose addresses are 0 where there was none; and the length of the whole, which
// the kernel does not tell but IP's header does.
func (p logged) frame() (head []byte, length int) {
	head = make([]byte, ethernet, ethernet+len(p.payload))
	if (p.hardware == unix.ARPHRD_ETHER || p.hardware == unix.ARPHRD_LOOPBACK) && len(p.link) >= ethernet {
		copy(head, p.link) // a VLAN device may show what is behind it, too
	}
	binary.BigEndian.PutUint16(head[ethernet-2:], p.etherType)
	head = append(head, p.payload...)
	length = len(head)
	if described, err := frame.Parse(head); err == nil && described.Size > 0 {
		length = ethernet + described.Size
	}
	return head[:min(len(head), plane.SampleBytes)], length
}
