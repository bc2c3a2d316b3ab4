package cluster

import (
	"net/netip"
	"testing"
	"time"

	"tunneldirector/integration/daemon"
	"tunneldirector/integration/lab"
)

// TestSides is the original picture: one director on the tunnel side, which has the VIPs, and one on the subnet side, which has the
// gateways. A real server dies, and each director; neither has a reserve, and the kernel goes on without the daemon.
func TestSides(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var err error
	r.authority, err = daemon.NewAuthority(r.dir)
	r.must("make an authority", err)
	r.newLab(lab.Options{Directors: 2, Sites: 4, SiteNamespaces: 2, RealServers: 2, IPv6: true})
	for i, side := range []string{"tunnel", "subnet"} {
		r.member(r.Directors[i], daemon.Membership{Side: side}, daemon.Options{Side: side})
	}
	want := map[netip.Addr]string{}
	for _, a := range r.VIPs {
		want[a] = "d1"
	}
	for _, a := range r.Gateways {
		want[a] = "d2"
	}
	stands := func() error {
		if err := r.equal(r.d...); err != nil {
			return err
		}
		return r.heldBy(want)
	}
	r.launch(r.d...)
	r.begin()
	r.until(time.Minute, "stand as they are to", stands)

	r.realServerDies()
	for _, d := range r.d {
		name := d.On().Title
		f := r.flow(r.Sites...)
		r.must("kill", d.Kill())
		r.rest(6 * time.Second) // for longer than addresses last that others could take over
		r.until(15*time.Second, "have all addresses where they belong without the daemon of "+name, func() error { return r.heldBy(want) })
		r.launch(d)
		r.until(time.Minute, "stand as they are to", stands)
		f.end("killed, and no reserve: " + name).lossless(r)
		f = r.flow(r.Sites...)
		r.must("stop", d.Stop())
		r.launch(d)
		r.until(time.Minute, "stand as they are to", stands)
		f.end("upgrade, and no reserve: " + name).lossless(r)
	}
	r.tables(r.d...)
}
