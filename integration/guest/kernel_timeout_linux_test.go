package guest

import (
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/moby/ipvs"

	"tunneldirector/integration/lab"
)

// TestIPVSTimeouts: what goes on and what stops while no director refreshes the kernel's entries. A tunnel that speaks more
// often than its timeout goes on for ever. One that fell silent is forgotten after the kernel's UDP timeout if UDP was the
// last that it sent, or else after ipvs.timeout, and works again when a director does.
func TestIPVSTimeouts(t *testing.T) {
	requireGuest(t)
	const udpTimeout = 4 * time.Second
	r := newRig(t, setup{
		plane: "ipvs", lab: lab.Options{Sites: 5, RealServers: 2}, service: serviceFor("dr", datagrams, esp),
		settings: "ipvs:\n  timeout: 1m\n",
	})
	r.must("set the UDP timeout", r.Director.Run(func() error { return setUDPTimeout(udpTimeout) }))
	r.serve()
	sites := oneSubnet(esp, r.Sites...)
	speaking, silent, never, ipsec, quiet := sites[0], sites[1], sites[2], sites[3], sites[4]
	r.must("push", r.d.Push(r.ctx, speaking, silent, never))
	r.bring(esp, ipsec, quiet)
	boxes := r.inboxes(r.VIPs[0])
	r.rest(2 * time.Second) // a refresh that knows the UDP timeout, and all that there is

	r.must("kill", r.d.Kill())
	pings := r.flow(ipsec)
	if !r.arrives(boxes, speaking) || !r.arrives(boxes, silent) {
		t.Errorf("at once: datagrams are lost")
	}
	for range 2 * udpTimeout / time.Second {
		r.rest(time.Second)
		if !r.arrives(boxes, speaking) {
			t.Errorf("UDP that speaks each second is lost")
		}
	}
	if r.arrives(boxes, silent) {
		t.Errorf("UDP that was silent for %s arrives: the timeout is not the %s that was set", 2*udpTimeout, udpTimeout)
	}
	if !r.arrives(boxes, never) {
		t.Errorf("a tunnel that never spoke is forgotten before ipvs.timeout")
	}
	r.ping(quiet, 1)
	if os.Getenv("SOAK") != "" {
		r.rest(70 * time.Second)
		if r.arrives(boxes, never) {
			t.Errorf("a tunnel that was silent for longer than ipvs.timeout arrives")
		}
	}
	r.lossless([]*flow{pings}, "without a director")
	r.must("start", r.d.Start(r.ctx))
	for _, s := range []*lab.Site{speaking, silent, never} {
		if !r.arrives(boxes, s) {
			t.Errorf("%s does not arrive after the start", s.Name)
		}
	}
	r.ping(quiet, 1)
}

// arrives sends a datagram from a site and tells whether it came to the tunnel's real server.
func (r *rig) arrives(boxes map[string]*inbox, s *lab.Site) bool {
	r.Helper()
	count := func() (n int) {
		for _, b := range boxes {
			for _, l := range b.letters() {
				if l.from.Addr() == s.Endpoint {
					n++
				}
			}
		}
		return n
	}
	before := count()
	c := r.socket(s.NS, netip.AddrPortFrom(s.Endpoint, 0))
	defer c.Close()
	r.send(c, netip.AddrPortFrom(s.VIP, datagramPort), 1, 100)
	for range 25 {
		r.rest(20 * time.Millisecond)
		if count() > before {
			return true
		}
	}
	return false
}

// setUDPTimeout is ipvsadm --set, in the network namespace of the calling thread.
func setUDPTimeout(d time.Duration) error {
	h, err := ipvs.New("")
	if err != nil {
		return fmt.Errorf("talk to IPVS: %w", err)
	}
	defer h.Close()
	c, err := h.GetConfig()
	if err != nil {
		return fmt.Errorf("read IPVS's timeouts: %w", err)
	}
	c.TimeoutUDP = d
	if err := h.SetConfig(c); err != nil {
		return fmt.Errorf("set IPVS's timeouts: %w", err)
	}
	return nil
}
