package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"tunneldirector/affinity"
	"tunneldirector/director/api"
)

// captured asks for packet n, from 1, of a file that tcpdump or Wireshark wrote.
func captured(path string, n int) (api.Question, error) {
	f, err := os.Open(path)
	if err != nil {
		return api.Question{}, fmt.Errorf("read packets: %w", err)
	}
	defer f.Close()
	q, err := capturedIn(f, n)
	if err != nil {
		return q, fmt.Errorf("packet %d of %s: %w", n, path, err)
	}
	return q, nil
}

// A packetReader is of pcap or pcapng.
type packetReader interface {
	ReadPacketData() ([]byte, gopacket.CaptureInfo, error)
	LinkType() layers.LinkType
}

func capturedIn(r io.Reader, n int) (api.Question, error) {
	b := bufio.NewReader(r)
	var packets packetReader
	head, err := b.Peek(4)
	if err == nil && bytes.Equal(head, []byte{0x0a, 0x0d, 0x0d, 0x0a}) { // a section header block: pcapng
		packets, err = pcapgo.NewNgReader(b, pcapgo.NgReaderOptions{SkipUnknownVersion: true})
	} else if err == nil {
		packets, err = pcapgo.NewReader(b)
	}
	if err != nil {
		return api.Question{}, fmt.Errorf("it is neither pcap nor pcapng: %w", err)
	}
	for i := 1; ; i++ {
		data, _, err := packets.ReadPacketData()
		switch {
		case errors.Is(err, io.EOF):
			return api.Question{}, fmt.Errorf("there are %d packets", i-1)
		case err != nil:
			return api.Question{}, err
		case i == n:
			return questionOf(gopacket.NewPacket(data, packets.LinkType(), gopacket.Lazy))
		}
	}
}

// errNotIP is of a packet that a director leaves to the kernel.
var errNotIP = errors.New("it is neither IPv4 nor IPv6, and left to the director's own stack")

// questionOf asks what becomes of a packet, by its outermost addresses.
func questionOf(p gopacket.Packet) (q api.Question, err error) {
	h := header{}
	switch ip := p.NetworkLayer().(type) {
	case *layers.IPv4:
		q.Src, q.Dst = ip.SrcIP.String(), ip.DstIP.String()
		h = header{ip.Protocol, ip.Payload, ip.FragOffset, ip.Flags&layers.IPv4MoreFragments != 0}
	case *layers.IPv6:
		q.Src, q.Dst = ip.SrcIP.String(), ip.DstIP.String()
		h = header{proto: ip.NextHeader, payload: ip.Payload}
		h.extend(p.Layers())
	default:
		return q, errNotIP
	}
	q.Proto = strconv.Itoa(int(h.proto))
	if e, ok := p.Layer(layers.LayerTypeEthernet).(*layers.Ethernet); ok {
		q.SrcMAC = e.SrcMAC.String()
	}
	switch {
	case h.offset > 0:
		q.Fragment = "later"
		return q, nil
	case h.more:
		q.Fragment = "first"
	}
	if affinity.HasPorts(uint8(h.proto)) && len(h.payload) >= 4 {
		q.SrcPort, q.DstPort = binary.BigEndian.Uint16(h.payload), binary.BigEndian.Uint16(h.payload[2:])
	}
	return q, nil
}

// A header is what follows IP's.
type header struct {
	proto   layers.IPProtocol
	payload []byte
	offset  uint16
	more    bool
}

// extend goes by the extension headers of the outermost IPv6.
func (h *header) extend(list []gopacket.Layer) {
	outer := true
	for _, l := range list {
		switch x := l.(type) {
		case *layers.IPv6:
			if !outer {
				return
			}
			outer = false
		case *layers.IPv6HopByHop:
			h.proto, h.payload = x.NextHeader, x.Payload
		case *layers.IPv6Routing:
			h.proto, h.payload = x.NextHeader, x.Payload
		case *layers.IPv6Destination:
			h.proto, h.payload = x.NextHeader, x.Payload
		case *layers.IPv6Fragment:
			h.proto, h.payload, h.offset, h.more = x.NextHeader, x.Payload, x.FragmentOffset, x.MoreFragments
		case *layers.Ethernet, *layers.Dot1Q:
		default:
			return
		}
	}
}
