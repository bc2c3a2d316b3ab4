package wireguard

import (
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"testing"
	"time"
)

// BenchmarkTunnels10000 is a look at 10,000 peers that are up; the answer is made in advance.
func BenchmarkTunnels10000(b *testing.B) {
	d := device{port: 51820, peers: make([]peer, 10_000)}
	for i := range d.peers {
		p := &d.peers[i]
		binary.BigEndian.PutUint32(p.key[4:], uint32(i+1))
		p.endpoint = netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, byte(i >> 8), byte(i)}), 51820)
		p.handshake, p.rx = time.Now().Add(-time.Minute), uint64(i)
		p.allowed = []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64, byte(i >> 8), byte(i)}), 32)}
	}
	text := []byte(d.text() + "errno=0\n\n")
	socket := filepath.Join(b.TempDir(), "wg.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write(text)
			_, _ = io.Copy(io.Discard, c)
			c.Close()
		}
	}()
	w := New(Options{Socket: socket, VIPs: []netip.Addr{vip4}})
	b.ReportAllocs()
	for b.Loop() {
		if got, err := w.Tunnels(b.Context()); err != nil || len(got) != len(d.peers) {
			b.Fatal(len(got), err)
		}
	}
}
