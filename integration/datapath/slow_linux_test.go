package datapath

import (
	"errors"
	"net"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"tunneldirector/director/agent"
	"tunneldirector/director/probe"
	"tunneldirector/integration/spaces"
	"tunneldirector/realserver/answer"
)

// A real server whose uplink is full loses nothing, but everything waits, ARP's answers too: it is slow, and alive.
func TestSaturationIsSlow(t *testing.T) {
	_, rs := wired(t)
	agentOn(t, rs, answer.Options{VIPs: vips, Method: "dr"})
	d := direct(t, probe.Target{})
	d.settled()
	const rate = 10_000_000 / 8
	bound(t, rs, rate)
	stop := fill(t, rs)
	d.becomes(true, 30*time.Second)
	d.quiet(3*time.Second, agent.HealthWorking, "")
	stop()
	d.becomes(false, 30*time.Second)
	d.quiet(time.Second, agent.HealthWorking, "")
}

// becomes waits until the real server is slow, or is not any more.
func (d *director) becomes(slow bool, within time.Duration) {
	d.t.Helper()
	from := time.Now()
	for d.p.Snapshot()[0].Slow != slow {
		d.quiet(interval, agent.HealthWorking, "")
		if time.Since(from) > within {
			d.t.Fatalf("slow is not %v within %v: %+v", slow, within, d.p.Snapshot())
		}
	}
	d.t.Logf("slow %v after %v: %v", slow, time.Since(from).Round(time.Millisecond), d.p.Snapshot()[0].RTT)
}

// bound makes a real server send at a rate, in bytes a second, and keep what does not go yet for up to a second.
func bound(t testing.TB, rs spaces.Space, rate uint64) {
	t.Helper()
	const burst = 4000
	rs.Do(func() {
		must(t, netlink.QdiscAdd(&netlink.Tbf{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: rs.Link("eth0").Attrs().Index,
			Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT}, Rate: rate, Limit: uint32(rate), Buffer: netlink.Xmittime(rate, burst)}))
	})
}

// fill sends as much as goes. What waits is what its socket's buffer takes, some 90 ms at 10 Mbit/s.
func fill(t testing.TB, rs spaces.Space) (stop func()) {
	t.Helper()
	var c net.Conn
	rs.Do(func() {
		var err error
		c, err = net.Dial("udp4", "192.0.2.1:9")
		must(t, err)
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for payload := make([]byte, 1200); ; {
			if _, err := c.Write(payload); errors.Is(err, net.ErrClosed) {
				return
			} // another error is that nobody listens there
		}
	}()
	return func() { c.Close(); <-done }
}
