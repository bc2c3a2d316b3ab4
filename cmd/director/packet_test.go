package main

import (
	"bytes"
	"net"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"tunneldirector/director/api"
)

// frames are packets as they come by Ethernet.
func frames(t testing.TB) [][]byte {
	t.Helper()
	eth := func(kind layers.EthernetType) *layers.Ethernet {
		return &layers.Ethernet{SrcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 11}, DstMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, EthernetType: kind}
	}
	ip4 := func(p layers.IPProtocol) *layers.IPv4 {
		return &layers.IPv4{Version: 4, TTL: 64, Protocol: p, SrcIP: net.IP{203, 0, 113, 5}, DstIP: net.IP{192, 0, 2, 10}}
	}
	udp := &layers.UDP{SrcPort: 41641, DstPort: 51820}
	inner := ip4(layers.IPProtocolUDP)
	later := ip4(layers.IPProtocolUDP)
	later.FragOffset = 185
	first := ip4(layers.IPProtocolUDP)
	first.Flags = layers.IPv4MoreFragments
	ip6 := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolESP, SrcIP: net.ParseIP("2001:db8::5"), DstIP: net.ParseIP("2001:db8::10")}
	var out [][]byte
	for _, list := range [][]gopacket.SerializableLayer{
		{eth(layers.EthernetTypeIPv4), ip4(layers.IPProtocolUDP), udp, gopacket.Payload("x")},
		{eth(layers.EthernetTypeIPv6), ip6, gopacket.Payload("12345678")},
		{eth(layers.EthernetTypeIPv4), later, gopacket.Payload("no header here")},
		{eth(layers.EthernetTypeIPv4), first, udp, gopacket.Payload("x")},
		{eth(layers.EthernetTypeIPv4), ip4(layers.IPProtocolIPv4), inner, udp, gopacket.Payload("x")},
		{eth(layers.EthernetTypeARP), gopacket.Payload("nothing")},
	} {
		b := gopacket.NewSerializeBuffer()
		_ = udp.SetNetworkLayerForChecksum(inner)
		if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true}, list...); err != nil {
			t.Fatal(err)
		}
		out = append(out, bytes.Clone(b.Bytes()))
	}
	return out
}

type packetWriter interface {
	WritePacket(gopacket.CaptureInfo, []byte) error
}

// file is a capture of frames.
func file(t testing.TB, ng bool) []byte {
	t.Helper()
	var b bytes.Buffer
	var w packetWriter
	var flush func() error
	if ng {
		x, err := pcapgo.NewNgWriter(&b, layers.LinkTypeEthernet)
		if err != nil {
			t.Fatal(err)
		}
		w, flush = x, x.Flush
	} else {
		x := pcapgo.NewWriter(&b)
		if err := x.WriteFileHeader(65535, layers.LinkTypeEthernet); err != nil {
			t.Fatal(err)
		}
		w, flush = x, func() error { return nil }
	}
	for _, f := range frames(t) {
		if err := w.WritePacket(gopacket.CaptureInfo{Timestamp: time.Unix(1, 0), CaptureLength: len(f), Length: len(f)}, f); err != nil {
			t.Fatal(err)
		}
	}
	if err := flush(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestCaptured(t *testing.T) {
	const mac = "02:00:00:00:00:0b"
	want := []api.Question{
		{Src: "203.0.113.5", Dst: "192.0.2.10", Proto: "17", SrcPort: 41641, DstPort: 51820, SrcMAC: mac},
		{Src: "2001:db8::5", Dst: "2001:db8::10", Proto: "50", SrcMAC: mac},
		{Src: "203.0.113.5", Dst: "192.0.2.10", Proto: "17", Fragment: "later", SrcMAC: mac},
		{Src: "203.0.113.5", Dst: "192.0.2.10", Proto: "17", Fragment: "first", SrcPort: 41641, DstPort: 51820, SrcMAC: mac},
		{Src: "203.0.113.5", Dst: "192.0.2.10", Proto: "4", SrcMAC: mac},
	}
	for _, ng := range []bool{false, true} {
		data := file(t, ng)
		for i, w := range want {
			got, err := capturedIn(bytes.NewReader(data), i+1)
			if err != nil {
				t.Errorf("pcapng %t, packet %d: %v", ng, i+1, err)
			}
			if d := cmp.Diff(w, got); d != "" {
				t.Errorf("pcapng %t, packet %d: %s", ng, i+1, d)
			}
		}
		if _, err := capturedIn(bytes.NewReader(data), len(want)+1); err != errNotIP {
			t.Errorf("pcapng %t, ARP: %v", ng, err)
		}
		if _, err := capturedIn(bytes.NewReader(data), 99); err == nil || err.Error() != "there are 6 packets" {
			t.Errorf("pcapng %t, beyond the end: %v", ng, err)
		}
	}
	for _, junk := range []string{"", "abc", "this is no capture at all, and long enough"} {
		if _, err := capturedIn(bytes.NewReader([]byte(junk)), 1); err == nil {
			t.Errorf("%q is read", junk)
		}
	}
}

// Whatever a file holds, it is read or refused.
func FuzzCaptured(f *testing.F) {
	f.Add(file(f, false), 1)
	f.Add(file(f, true), 3)
	f.Fuzz(func(_ *testing.T, data []byte, n int) {
		_, _ = capturedIn(bytes.NewReader(data), n%8) // it ends
	})
}
