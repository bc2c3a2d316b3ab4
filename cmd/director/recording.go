package main

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"tunneldirector/affinity"
	"tunneldirector/director/api"
)

// recordingID is the form of a recording's id; what else stands for a recording is the path of a file.
var recordingID = regexp.MustCompile(`^[0-9]{8}T[0-9]{6}Z-[a-z-]+(-[0-9]+)?$`)

// recordingSuffix ends the name of an exported recording.
const recordingSuffix = ".pcapng"

// A recordedPacket is a packet of a recording, as `blackbox show` prints it with --json.
type recordedPacket struct {
	At        time.Time `json:"at"`
	Interface string    `json:"interface,omitempty"`
	packetEnds
	Length int      `json:"length"` // of the frame, bytes
	Became string   `json:"became"`
	Reason string   `json:"reason,omitempty"` // why it was not forwarded
	Notes  []string `json:"notes,omitempty"`  // what else stands beside it in the file
	Head   []byte   `json:"head"`             // its first bytes, from the Ethernet header on
}

// packetEnds are what the beginning of a packet says of it.
type packetEnds struct {
	From     string `json:"from"` // addresses; MAC addresses of what is not IP
	FromPort uint16 `json:"from_port,omitempty"`
	To       string `json:"to"`
	ToPort   uint16 `json:"to_port,omitempty"`
	Proto    string `json:"proto"`
	Fragment string `json:"fragment,omitempty"` // first or later
}

// endsOf reads them.
func endsOf(p gopacket.Packet) packetEnds {
	q, err := questionOf(p)
	if err != nil {
		if e, ok := p.LinkLayer().(*layers.Ethernet); ok {
			return packetEnds{From: e.SrcMAC.String(), To: e.DstMAC.String(), Proto: etherWord(e.EthernetType)}
		}
		return packetEnds{From: "?", To: "?", Proto: "?"}
	}
	n, _ := strconv.ParseUint(q.Proto, 10, 8) // questionOf wrote it
	return packetEnds{From: q.Src, FromPort: q.SrcPort, To: q.Dst, ToPort: q.DstPort, Proto: protoWord(uint8(n)), Fragment: q.Fragment}
}

func etherWord(t layers.EthernetType) string {
	if t == layers.EthernetTypeARP {
		return "arp"
	}
	return fmt.Sprintf("ethertype 0x%04x", uint16(t))
}

// protoWord is an IP protocol as people call it, ICMP among them.
func protoWord(n uint8) string {
	switch layers.IPProtocol(n) {
	case layers.IPProtocolICMPv4:
		return "icmp"
	case layers.IPProtocolICMPv6:
		return "icmpv6"
	}
	return affinity.ProtoName(n)
}

// words are its ends and protocol in a line.
func (e *packetEnds) words() string {
	s := endWords(e.From, e.FromPort) + " > " + endWords(e.To, e.ToPort) + "  " + e.Proto
	if e.Fragment != "" {
		s += ", " + e.Fragment + " fragment"
	}
	return s
}

func endWords(addr string, port uint16) string {
	switch {
	case port == 0:
		return addr
	case strings.Contains(addr, ":"):
		return fmt.Sprintf("[%s]:%d", addr, port)
	}
	return fmt.Sprintf("%s:%d", addr, port)
}

// packetLine is a packet in a line.
func packetLine(at time.Time, dev string, e packetEnds, length int) string {
	return at.UTC().Format("2006-01-02 15:04:05.000000") + "  " + orWord(dev, "-") + "  " + e.words() + "  " + strconv.Itoa(length) + " bytes"
}

// seenEnds are the ends of a packet that a director shows.
func seenEnds(s *api.SeenPacket) packetEnds {
	return endsOf(gopacket.NewPacket(s.Head, layers.LinkTypeEthernet, gopacket.Lazy))
}

// readRecording calls f for each packet of a pcapng file, in its order. The reader that it returns knows what the file says of itself; nil: it
// is no pcapng. The error wraps io.ErrUnexpectedEOF if the file ends within a packet, as it does after a crash.
func readRecording(r io.Reader, f func(*recordedPacket)) (*pcapgo.NgReader, error) {
	ng, err := pcapgo.NewNgReader(r, pcapgo.NgReaderOptions{WantMixedLinkType: true, SkipUnknownVersion: true})
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("it is no pcapng: %w", err)
	}
	for {
		data, ci, opts, err := ng.ReadPacketDataWithOptions()
		switch {
		case errors.Is(err, io.EOF):
			return ng, nil
		case err != nil:
			return ng, err
		}
		p := recordedPacket{At: ci.Timestamp, Length: ci.Length, Head: data}
		link := layers.LinkTypeEthernet
		if dev, err := ng.Interface(ci.InterfaceIndex); err == nil {
			p.Interface, link = dev.Name, dev.LinkType
		}
		p.packetEnds = endsOf(gopacket.NewPacket(data, link, gopacket.Lazy))
		p.Became, p.Reason, p.Notes = becameOf(opts.Comments)
		f(&p)
	}
}
