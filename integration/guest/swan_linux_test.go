package guest

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"tunneldirector/integration/daemon"
	"tunneldirector/integration/guest/strongswan"
	"tunneldirector/integration/lab"
)

// ipsec is the virtual service of IPsec sites.
func ipsec(method string) daemon.VirtualService {
	return daemon.VirtualService{Name: "ipsec", Protocols: []string{"esp", "udp/500", "udp/4500"}, Method: method, Check: "{udp: 500}"}
}

// Settings of the terminators, short so that tests are: a site notices a dead peer, a real server leaves that to the sites.
var (
	retransmits    = strongswan.Retransmits{Timeout: time.Second, Base: 1.5, Tries: 2}
	siteLiveness   = 2 * time.Second
	serverLiveness = 30 * time.Second
)

// settings are what every measured time of a recovery depends on.
var settings = fmt.Sprintf("(strongSwan; site: DPD %s, gives up after %s more, close_action=start; real server: DPD %s)",
	siteLiveness, seconds(retransmits.Patience())+"s", serverLiveness)

// swan is strongSwan at sites and real servers of a rig. All real servers are the same to a site.
type swan struct {
	*rig
	people  *strongswan.Authority
	service strongswan.Identity
	sites   map[*lab.Site]*strongswan.Daemon
	servers map[*lab.RealServer]*strongswan.Daemon
}

// A kindOfSite says how a site's IKE is set.
type kindOfSite struct {
	large     bool // its certificate is too large for a packet
	fragments bool // IKE cuts messages, not IP
	mute      bool // it never asks whether its peer lives: no IKE but for what it has to
}

// startSwan starts all charons; the real servers' know the sites.
func (r *rig) startSwan() *swan {
	r.Helper()
	w := &swan{rig: r, sites: map[*lab.Site]*strongswan.Daemon{}, servers: map[*lab.RealServer]*strongswan.Daemon{}}
	var err error
	w.people, err = strongswan.NewAuthority()
	r.must("make an authority", err)
	w.service = w.identity("vip", false)
	r.warmUp()
	begin := time.Now()
	var mu sync.Mutex
	var all sync.WaitGroup
	var errs []error
	start := func(ns *lab.Namespace, keep func(*strongswan.Daemon)) {
		all.Go(func() {
			d, err := strongswan.Start(r.ctx, r.Lab, ns, retransmits)
			mu.Lock()
			defer mu.Unlock()
			keep(d)
			errs = append(errs, err)
		})
	}
	for _, s := range r.Sites {
		start(s.NS, func(d *strongswan.Daemon) { w.sites[s] = d })
	}
	for _, rs := range r.RealServers {
		start(rs.NS, func(d *strongswan.Daemon) { w.servers[rs] = d })
	}
	all.Wait()
	r.must("start strongSwan", errors.Join(errs...))
	r.Cleanup(w.tellIfFailed)
	for _, rs := range r.RealServers {
		w.await(rs)
	}
	r.Logf("%d charons started in %s", len(w.sites)+len(w.servers), seconds(time.Since(begin)))
	return w
}

// identity is one with a name of its own; large makes the certificate too large for a packet.
func (w *swan) identity(name string, large bool) strongswan.Identity {
	w.Helper()
	var more []string
	for i := range 60 {
		if large {
			more = append(more, fmt.Sprintf("%s.%02d.example", strings.Repeat("x", 50), i))
		}
	}
	id, err := w.people.Identity(name, more...)
	w.must("vouch", err)
	return id
}

// warmUp makes the kernel load what IPsec takes: it does so at the first SA, for seconds, and a site would have given up.
func (r *rig) warmUp() {
	r.Helper()
	r.must("load IPsec", r.Router.Run(func() error { return strongswan.WarmUp(r.VIPs) }))
}

// run runs a subtest that shares all, as rig.run does.
func (w *swan) run(name string, test func(w *swan)) {
	w.Helper()
	w.rig.run(name, func(r *rig) {
		s := *w
		s.rig = r
		test(&s)
	})
}

// await tells a real server's charon to take whoever the authority vouches for, with whichever of the covered subnets.
func (w *swan) await(rs *lab.RealServer) {
	w.Helper()
	for i, vip := range w.VIPs {
		c := strongswan.Connection{
			Name: fmt.Sprintf("sites%d", i), Local: vip, Near: w.Target.Networks(), Far: lab.Covers[:len(w.VIPs)], Fragments: true, Liveness: serverLiveness,
		}
		w.must("configure "+rs.Name, w.servers[rs].Load(c, w.service))
	}
}

// call lets a site call the virtual IP.
func (w *swan) call(s *lab.Site, k kindOfSite) {
	w.Helper()
	c := strongswan.Connection{
		Name: "vip", Local: s.Local, Remote: s.VIP, Peer: w.service.Name, Near: s.Subnets, Far: w.Target.Networks(),
		Fragments: k.fragments, Liveness: siteLiveness, Calls: true,
	}
	if k.mute {
		c.Liveness = 0
	}
	w.must("configure "+s.Name, w.sites[s].Load(c, w.identity(s.Name, k.large)))
}

// at are the real servers, by name, whose charon has a tunnel to a site.
func (w *swan) at(s *lab.Site) (map[string]strongswan.SA, error) {
	all := map[string]strongswan.SA{}
	for rs, d := range w.servers {
		sas, err := d.SAs()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", rs.Name, err)
		}
		for _, sa := range sas {
			if sa.Peer == s.Name {
				all[rs.Name] = sa
			}
		}
	}
	return all, nil
}

// arrive waits until a site and the real server that the director says have a tunnel: the real server is the first to.
func (w *swan) arrive(s *lab.Site, d time.Duration) *lab.RealServer {
	w.Helper()
	var rs *lab.RealServer
	w.until(d, "wait for "+s.Name+" where it is pinned", func() error {
		rs = w.placed(s) // a death moves it a moment later
		all, err := w.at(s)
		if _, ok := all[rs.Name]; err == nil && !ok {
			err = fmt.Errorf("it is pinned to %s and at %v", rs.Name, all)
		}
		own, ask := w.sites[s].SAs()
		if err == nil && len(own) == 0 {
			err = errors.New("it has no tunnel itself")
		}
		return errors.Join(err, ask)
	})
	return rs
}

// own is the one tunnel that a site's charon has; in the middle of a rekey there may be none or two for a moment.
func (w *swan) own(s *lab.Site) strongswan.SA {
	w.Helper()
	var sas []strongswan.SA
	w.until(30*time.Second, "ask "+s.Name, func() (err error) {
		if sas, err = w.sites[s].SAs(); err == nil && len(sas) != 1 {
			err = fmt.Errorf("it has the tunnels %+v, want one", sas)
		}
		return err
	})
	return sas[0]
}

// tellIfFailed shows the end of what the charons wrote.
func (w *swan) tellIfFailed() {
	if !w.Failed() {
		return
	}
	tell := func(name string, d *strongswan.Daemon) {
		if d == nil { // it died with its real server, or never lived
			return
		}
		lines := strings.Split(d.Log(), "\n")
		w.Logf("charon of %s:\n%s", name, strings.Join(lines[max(0, len(lines)-40):], "\n"))
	}
	for _, s := range w.Sites {
		tell(s.Name, w.sites[s])
	}
	for _, rs := range w.RealServers {
		tell(rs.Name, w.servers[rs])
	}
}
