package ipsec

import (
	"context"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"tunneldirector/director/agent"
	"tunneldirector/integration/guest/strongswan"
	"tunneldirector/integration/lab"
)

// crowd is how many tunnels a successor inherits at once.
const crowd = 200

// TestCrowd: a real server dies with many tunnels; the successor begins them one after the other, as fast as it is asked.
func TestCrowd(t *testing.T) {
	if os.Getenv("SOAK") == "" {
		t.Skip("it takes a machine that does nothing else: asked for by SOAK")
	}
	if inGuest() {
		t.Skip("an emulated processor is too slow for so many; it runs on the host's kernel")
	}
	l, err := lab.New(context.WithoutCancel(t.Context()), lab.Options{Sites: crowd, SiteNamespaces: 1, RealServers: 2, Bare: true})
	if err != nil {
		t.Fatal(err)
	}
	all := software(t)
	all.Crowd = true
	r := &rig{T: t, Lab: l, software: all, secret: "not much of one", sites: map[*lab.Site]*strongswan.Daemon{}}
	t.Cleanup(func() { r.must("close the lab", l.Close()) })
	r.start(r.Sites[:1])
	second := r.RealServers[1]
	r.pin(r.RealServers[0])
	for _, s := range r.Sites {
		r.sites[s] = r.sites[r.Sites[0]]
		r.call(s)
	}
	var tunnels []agent.Tunnel
	r.until(time.Minute, "wait for all tunnels", func() (err error) {
		if tunnels, err = r.drivers[r.RealServers[0]].Tunnels(t.Context()); err == nil && len(tunnels) < crowd {
			err = fmt.Errorf("there are %d", len(tunnels))
		}
		return err
	})
	r.must("kill", r.KillRealServer(1))
	r.pin(second)
	began := time.Now()
	var pings []*lab.Pinger
	var ends []context.CancelFunc
	for _, s := range r.Sites {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		p, err := r.StartPing(ctx, r.Target.Namespace, r.target(s), s.Inside[0], 200*time.Millisecond, 0)
		r.must("ping", err)
		pings, ends = append(pings, p), append(ends, cancel)
	}
	ordered := time.Now()
	for i, one := range tunnels {
		r.must("adopt", r.drivers[second].Adopt(t.Context(), agent.Inherited{
			ID: fmt.Sprint(i), Peer: one.Peer, Local: one.Local, Endpoint: one.Endpoint, Subnets: one.Subnets,
		}))
	}
	called := time.Since(ordered)
	r.until(3*time.Minute, "wait for packets of all", func() (err error) {
		for i, p := range pings {
			if p.Received() > 0 {
				ends[i]() // what goes on to be sent would slow the others down
			} else {
				err = fmt.Errorf("none of %s", r.Sites[i].Name)
			}
		}
		return err
	})
	var first []time.Duration
	for _, p := range pings {
		echoes, err := p.Stop()
		r.must("ping", err)
		for _, e := range echoes {
			if !e.Lost() {
				first = append(first, e.Received.Sub(ordered))
				break
			}
		}
	}
	slices.Sort(first)
	t.Logf("MEASURED adopted-to-first-packet-of-%d median %.2f s, 99 %% %.2f s, last %.2f s %s; all ordered within %.2f s, pinged each 0.2 s since %.2f s before",
		crowd, first[crowd/2].Seconds(), first[crowd*99/100].Seconds(), first[crowd-1].Seconds(), settings, called.Seconds(), ordered.Sub(began).Seconds())
	if all, err := r.drivers[second].Tunnels(t.Context()); err != nil || len(all) != crowd {
		t.Errorf("the successor has %d tunnels (%v)", len(all), err)
	}
}
