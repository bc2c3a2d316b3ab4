package main

import (
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tunneldirector/cmd/console"
	"tunneldirector/director/config"
	"tunneldirector/director/plane"
	"tunneldirector/director/plane/frame"
)

// A recording's words name the tunnel that a packet towards a VIP is of, and none where the table knows none.
func TestWordsNameTheTunnel(t *testing.T) {
	w := furnished(t)
	w.run("tunnel", "add", "site-1", "--service", "ipsec", "--endpoint", "203.0.113.5").Exits(console.ExitOK)
	w.run("tunnel", "add", "site-2", "--service", "ipsec", "--endpoint", "203.0.113.6:4500").Exits(console.ExitOK)
	b := &ownBox{table: w.d.Table}
	vip := netip.MustParseAddr("192.0.2.10")
	of := func(src string, port uint16) plane.Packet {
		p := plane.Packet{Src: netip.MustParseAddr(src), Dst: vip, Proto: 50, Hops: 64}
		if port != 0 {
			p.Proto, p.SrcPort, p.DstPort = 17, port, 4500
		}
		return p
	}
	about := plane.Packet{Src: netip.MustParseAddr("198.51.100.1"), Dst: vip, Proto: 1, Hops: 64, ICMPType: 3, ICMPCode: 4,
		Inner: &plane.Packet{Src: vip, Dst: netip.MustParseAddr("203.0.113.5"), Proto: 17, SrcPort: 4500, DstPort: 4500, Hops: 64, Size: 1400}}
	const dropped = "dropped: no-port (the endpoint's tunnels are told by port, and it carries none), tunnel side"
	for _, tt := range []struct {
		name   string
		packet plane.Packet
		want   string
	}{
		{"ESP of an endpoint", of("203.0.113.5", 0), dropped + ", tunnel site-1"},
		{"any port of an endpoint", of("203.0.113.5", 77), dropped + ", tunnel site-1"},
		{"its port", of("203.0.113.6", 4500), dropped + ", tunnel site-2"},
		{"another port", of("203.0.113.6", 77), dropped},
		{"no port, where tunnels are told by port", of("203.0.113.6", 0), dropped},
		{"an unknown endpoint", of("203.0.113.7", 0), dropped},
		{"a router's ICMP error", about, dropped + ", tunnel site-1"},
	} {
		head, err := frame.Build(tt.packet, frame.MACs{Src: net.HardwareAddr{2, 0, 0, 0, 0, 9}, Dst: net.HardwareAddr{2, 0, 0, 0, 0, 1}})
		if err != nil {
			t.Fatal(err)
		}
		s := plane.Sample{Reason: plane.DropNoPort, Side: plane.TunnelSide, Head: head[:min(len(head), plane.SampleBytes)]}
		if got := b.words(s); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
	if got := b.words(plane.Sample{Reason: plane.DropNoPort, Side: plane.TunnelSide, Head: []byte{1}}); got != dropped {
		t.Errorf("of one byte: %q", got)
	}
}

// A disk that refuses the black box its directory does not keep a director from running.
func TestWithoutBlackBox(t *testing.T) {
	dir := t.TempDir()
	shows := struct {
		plane.Plane
		plane.Sampler
	}{}
	if b, lacks := openBox(config.Config{DataDir: dir}, shows, nil, slog.New(slog.DiscardHandler)); b == nil || lacks != nil || b.alarms() != nil {
		t.Errorf("of an empty disk: %v, alarms %q and %q", b, lacks, b.alarms())
	}
	if err := os.Remove(filepath.Join(dir, "blackbox")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "blackbox"), nil, 0o600); err != nil { // as good as a disk that is full
		t.Fatal(err)
	}
	b, lacks := openBox(config.Config{DataDir: dir}, shows, nil, slog.New(slog.DiscardHandler))
	if b != nil || len(lacks) != 1 || !strings.Contains(lacks[0], "there is no black box: open the black box: mkdir") || b.alarms() != nil {
		t.Errorf("%v, alarms %q and %q", b, lacks, b.alarms())
	}
}
