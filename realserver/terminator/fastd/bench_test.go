package fastd

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"tunneldirector/realserver/terminator/terminatortest"
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
	s := terminatortest.Listen(b, says(doc.String()))
	terminatortest.Bench(b, New(Options{Socket: s.Socket, VIPs: []netip.Addr{vip4}}))
}
