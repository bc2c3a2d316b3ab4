package datapath

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/ipv4"

	"tunneldirector/director/agent"
	"tunneldirector/realserver/answer"
)

// BenchmarkFlood prints what a flood of the probes' port costs the agent's process, as a share of a core, and how much of it
// is answered. What the kernel takes to drop the rest is the sender's time on a veth.
func BenchmarkFlood(b *testing.B) {
	probe := agent.AppendProbe(nil, agent.Nonce{1}, "rs1")
	for _, f := range []struct {
		name    string
		payload []byte
		ttl     int
	}{
		{"garbage", []byte("GET / HTTP/1.1"), agent.ProbeTTL},
		{"probes from a site", probe, agent.ProbeTTL - 1},
		{"probes from the segment", probe, agent.ProbeTTL},
	} {
		b.Run(f.name, func(b *testing.B) { flood(b, f.payload, f.ttl) })
	}
}

func flood(b *testing.B, payload []byte, ttl int) {
	dir, rs := wired(b)
	a := agentOn(b, rs, answer.Options{VIPs: vips, Method: "dr"})
	lo := dir.Link("lo")
	dir.Do(func() {
		vip, err := netlink.ParseAddr(vips[0].String() + "/32")
		must(b, err)
		must(b, netlink.AddrDel(lo, vip)) // a director that is no director: it sends as any host does
	})
	dir.Route(vips[0].String()+"/32", rsAddrs[0].String())
	c, err := net.ListenPacket("udp4", "192.0.2.1:0")
	must(b, err)
	defer c.Close()
	p := ipv4.NewPacketConn(c)
	must(b, p.SetTTL(ttl))
	batch := make([]ipv4.Message, 64)
	to := net.UDPAddrFromAddrPort(netip.AddrPortFrom(vips[0], agent.DefaultProbe))
	for i := range batch {
		batch[i] = ipv4.Message{Buffers: [][]byte{payload}, Addr: to}
	}
	sent, before, from, used := 0, a.counts(), time.Now(), a.cpu()
	for b.Loop() {
		for end := time.Now().Add(time.Second); time.Now().Before(end); {
			n, err := p.WriteBatch(batch, 0)
			must(b, err)
			sent += n
		}
	}
	seconds := time.Since(from).Seconds()
	after := a.counts()
	b.ReportMetric(float64(sent)/seconds, "sent/s")
	b.ReportMetric(float64(after.Answered-before.Answered)/seconds, "answered/s")
	b.ReportMetric(100*(a.cpu()-used).Seconds()/seconds, "%core")
}
