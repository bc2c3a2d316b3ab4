package wireguard

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"

	"tunneldirector/realserver/terminator/terminatortest"
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
	text := d.text() + "errno=0\n\n"
	s := listen(b, func(c net.Conn, _ string) { _, _ = c.Write([]byte(text)) })
	terminatortest.Bench(b, New(Options{Socket: s.Socket, VIPs: []netip.Addr{vip4}}))
}
