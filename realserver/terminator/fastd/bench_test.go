package fastd

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
)

// BenchmarkTunnels10000 is a look at 10,000 peers that are up; the document is made in advance.
func BenchmarkTunnels10000(b *testing.B) {
	const stat = `{ "packets": 3, "bytes": 270 }`
	var doc strings.Builder
	doc.WriteString(`{ "uptime": 5203, "interface": "fd0", "peers": {`)
	for i := range 10_000 {
		if i > 0 {
			doc.WriteByte(',')
		}
		fmt.Fprintf(&doc, ` "%s": { "name": "site-%d", "address": "203.0.113.11:%d", "connection": { "established": 60000, "method": "salsa2012+umac", `+
			`"statistics": { "rx": %s, "rx_reordered": %s, "tx": %s, "tx_dropped": %s, "tx_error": %s }, "mac_addresses": [ "3a:6c:a8:94:8d:d5" ] } }`,
			key(i), i, i+1, stat, stat, stat, stat, stat)
	}
	doc.WriteString(` } }`)
	socket := filepath.Join(b.TempDir(), "fastd.sock")
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
			_, _ = c.Write([]byte(doc.String()))
			c.Close()
		}
	}()
	w := New(Options{Socket: socket, VIPs: []netip.Addr{vip4}})
	b.ReportAllocs()
	for b.Loop() {
		if got, err := w.Tunnels(b.Context()); err != nil || len(got) != 10_000 {
			b.Fatal(len(got), err)
		}
	}
}
