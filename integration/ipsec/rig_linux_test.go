package ipsec

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tunneldirector/integration/guest/strongswan"
	"tunneldirector/integration/lab"
	"tunneldirector/integration/spaces"
	"tunneldirector/integration/vm"
	"tunneldirector/integration/vm/debs"
	driver "tunneldirector/realserver/terminator/strongswan"
)

// retransmits are of sites and real servers, short so that tests are.
var retransmits = strongswan.Retransmits{Timeout: time.Second, Base: 1.5, Tries: 3}

// proposals are what sites want of IKE, as an operator repeats it to the agent. Charon may lose the answer of a site that is
// this near if it has to ask for another group.
var proposals = []string{"aes128gcm16-prfsha256-ecp256"}

// siteLiveness and serverLiveness are how long an idle peer is left alone.
const (
	siteLiveness   = 5 * time.Second
	serverLiveness = 30 * time.Second
)

// inGuest tells whether this is the virtual machine, whose kernel has IPsec.
func inGuest() bool { return os.Getenv("TUNNELDIRECTOR_VM") != "" }

// A rig is a lab whose router stands for the director, and charons at sites and real servers.
type rig struct {
	*testing.T
	*lab.Lab
	software  strongswan.Software
	authority *strongswan.Authority
	secret    string // "": certificates
	sites     map[*lab.Site]*strongswan.Daemon
	servers   map[*lab.RealServer]*strongswan.Daemon
	drivers   map[*lab.RealServer]*driver.Driver
}

// software finds strongSwan: the guest's, or Debian's packages unpacked.
func software(t *testing.T) strongswan.Software {
	t.Helper()
	spaces.Root(t)
	if inGuest() {
		return strongswan.Software{}
	}
	dir := filepath.Join("..", "..", "build", "vm")
	dir, err := filepath.Abs(dir)
	if err != nil {
		t.Fatal(err)
	}
	unlock, err := debs.Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	all, err := debs.New(filepath.Join(dir, "debs"), slog.New(slog.DiscardHandler)).Get(t.Context(), vm.Software...)
	if err != nil {
		spaces.Absent(t, "strongSwan: "+err.Error())
	}
	s := strongswan.Software{Userspace: true}
	for _, p := range all {
		if strings.Contains(p.Name, "strongswan") || strings.Contains(p.Name, "charon") {
			s.Packages = append(s.Packages, p.Dir)
		}
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		spaces.Absent(t, "TUN: "+err.Error())
	}
	return s
}

func newRig(t *testing.T, o lab.Options, secret string) *rig {
	t.Helper()
	r := &rig{
		T: t, software: software(t), secret: secret,
		sites: map[*lab.Site]*strongswan.Daemon{},
	}
	o.Bare, o.RealServers = true, 2
	var err error
	if r.Lab, err = lab.New(context.WithoutCancel(t.Context()), o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Lab.Close(); err != nil {
			t.Errorf("close the lab: %v", err)
		}
	})
	t.Cleanup(r.tellIfFailed)
	r.authority, err = strongswan.NewAuthority()
	r.must("make an authority", err)
	r.warmUp()
	r.start(r.Sites)
	return r
}

// start starts charons of sites, and all of real servers, at once. The real servers' know the sites.
func (r *rig) start(sites []*lab.Site) {
	r.Helper()
	r.servers, r.drivers = map[*lab.RealServer]*strongswan.Daemon{}, map[*lab.RealServer]*driver.Driver{}
	var mu sync.Mutex
	var all sync.WaitGroup
	var errs []error
	start := func(ns *lab.Namespace, keep func(*strongswan.Daemon)) {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(r.Context(), 2*time.Minute)
			defer cancel()
			d, err := r.software.Start(ctx, r.Lab, ns, retransmits)
			mu.Lock()
			defer mu.Unlock()
			keep(d)
			errs = append(errs, err)
		})
	}
	for _, s := range sites {
		start(s.NS, func(d *strongswan.Daemon) { r.sites[s] = d })
	}
	for _, rs := range r.RealServers {
		start(rs.NS, func(d *strongswan.Daemon) { r.servers[rs] = d })
	}
	all.Wait()
	r.must("start strongSwan", errors.Join(errs...))
	for _, rs := range r.RealServers {
		r.serve(rs)
	}
}

// serve tells a real server's charon to take whoever proves to be a site, and makes its driver.
func (r *rig) serve(rs *lab.RealServer) {
	r.Helper()
	for i, vip := range r.VIPs {
		c := strongswan.Connection{
			Name: fmt.Sprintf("sites%d", i), Local: vip, Near: r.Target.Networks(), Far: lab.Covers[:len(r.VIPs)], Fragments: true, Liveness: serverLiveness,
			ESP: packets,
		}
		r.must("configure "+rs.Name, r.servers[rs].Load(c, r.identity("vip")))
	}
	var err error
	r.drivers[rs], err = driver.New(driver.Options{Socket: r.servers[rs].Socket(), Proposals: proposals})
	r.must("make a driver", err)
}

// call lets a site call the virtual IP.
func (r *rig) call(s *lab.Site, esp ...string) {
	r.Helper()
	c := strongswan.Connection{
		Name: s.Name, Local: s.Local, Remote: s.VIP, Peer: "vip", Near: s.Subnets, Far: r.Target.Networks(), Liveness: siteLiveness, Calls: true, ESP: esp,
	}
	r.must("configure "+s.Name, r.sites[s].Load(c, r.identity(s.Name)))
}

func (r *rig) identity(name string) strongswan.Identity {
	r.Helper()
	if r.secret != "" {
		return strongswan.Identity{Name: name, Secret: r.secret}
	}
	id, err := r.authority.Identity(name)
	r.must("vouch", err)
	return id
}

// pin hands a site's subnets and the virtual IP, to which all sites' packets go, to a real server.
func (r *rig) pin(rs *lab.RealServer) {
	r.Helper()
	for i, vip := range r.VIPs {
		r.must("pin", r.Router.Route(netip.PrefixFrom(vip, vip.BitLen()), rs.DR.Addrs[i], "rs"))
		r.must("pin", r.Target.Route(lab.Covers[i], rs.Inner.Addrs[i], "inner"))
	}
}

// until asks until there is no error.
func (r *rig) until(d time.Duration, what string, ask func() error) {
	r.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(d)
	for {
		err := ask()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			r.Fatalf("%s: not within %s: %v", what, d, err)
		}
	}
}

func (r *rig) must(act string, err error) {
	r.Helper()
	if err != nil {
		r.Fatalf("%s: %v", act, err)
	}
}

// tellIfFailed shows the end of what the charons wrote.
func (r *rig) tellIfFailed() {
	if !r.Failed() {
		return
	}
	tell := func(name string, d *strongswan.Daemon) {
		if d == nil {
			return
		}
		lines := strings.Split(d.Log(), "\n")
		r.Logf("charon of %s:\n%s", name, strings.Join(lines[max(0, len(lines)-60):], "\n"))
	}
	for s, d := range r.sites {
		tell(s.Name, d)
	}
	for rs, d := range r.servers {
		tell(rs.Name, d)
	}
}
