package ipsec

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"tunneldirector/director/agent"
	"tunneldirector/integration/guest/libreswan"
	"tunneldirector/integration/lab"
	"tunneldirector/realserver/space"
	driver "tunneldirector/realserver/terminator/libreswan"
	"tunneldirector/realserver/terminator/xfrm"
)

// TestLibreswan: what whack tells is what there is; a successor begins the tunnel of a site that has an address of its own; the
// real server that gives a tunnel up tells its site.
func TestLibreswan(t *testing.T) {
	if !inGuest() {
		t.Skip("libreswan takes a kernel with IPsec: run in the virtual machine")
	}
	l, err := lab.New(context.WithoutCancel(t.Context()), lab.Options{Sites: 2, RealServers: 2, Bare: true, BehindNAT: 1})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{T: t, Lab: l}
	t.Cleanup(func() { r.must("close the lab", l.Close()) })
	r.warmUp()
	plutos := map[string]*libreswan.Daemon{}
	t.Cleanup(func() {
		for name, d := range plutos {
			if t.Failed() && d != nil {
				t.Logf("pluto of %s:\n%s", name, d.Log())
			}
		}
	})
	drivers := r.plutos(plutos)
	r.pin(r.RealServers[0])
	r.callByPluto(plutos)
	tunnels := map[string]agent.Tunnel{}
	t.Cleanup(func() {
		for _, rs := range r.RealServers {
			r.showIfFailed(rs)
		}
	})
	for _, s := range r.Sites {
		peer := s.Name + " @" + s.Name
		tunnels[peer] = r.upByPluto(drivers[0], peer)
		t.Logf("%+v", tunnels[peer])
		told := tunnels[peer]
		if told.Endpoint.Addr() != s.Endpoint || told.Local != s.VIP || len(told.Subnets) != 1 || told.Subnets[0] != s.Subnets[0] || (told.Endpoint.Port() != 0) != (s.Local != s.Endpoint) {
			t.Errorf("%s at %s is told of as %+v", s.Name, s.Endpoint, told)
		}
	}
	if n, err := drivers[0].Carries(t.Context()); n != 2 || err != nil {
		t.Errorf("it carries %d (%v), want 2", n, err)
	}
	w, err := drivers[0].Work(t.Context())
	if err != nil || len(w.Processes) != 1 {
		t.Errorf("it works with %+v (%v)", w, err)
	}
	s := r.Sites[0]
	r.must("kill", r.KillRealServer(1))
	r.pin(r.RealServers[1])
	order := inherit(s, tunnels[s.Name+" @"+s.Name])
	began := time.Now()
	p := r.ping(s)
	r.must("adopt", drivers[1].Adopt(t.Context(), order))
	r.flows(s, p, 60*time.Second)
	t.Logf("MEASURED adopted-to-first-packet %.3f s (libreswan; site: DPD 2s, retransmit-timeout 5s)", time.Since(began).Seconds())
	told := r.upByPluto(drivers[1], order.Peer)
	began = time.Now()
	r.must("release", drivers[1].Release(t.Context(), order))
	r.until(60*time.Second, "wait for the site to call again", func() error {
		all, err := drivers[1].Tunnels(t.Context())
		for _, one := range all {
			if one.Peer == order.Peer && one.Since.After(told.Since) {
				return nil
			}
		}
		return errors.Join(err, fmt.Errorf("it has %+v", all))
	})
	// It heard of it at once, but takes the one at the dead real server for alive until it has found out.
	t.Logf("MEASURED released-to-called-again %.3f s (libreswan; site: DPD 2s, retransmit-timeout 5s)", time.Since(began).Seconds())
}

// plutos starts those of the real servers, with a connection for each site, and makes their drivers.
func (r *rig) plutos(all map[string]*libreswan.Daemon) []*driver.Driver {
	r.Helper()
	var sites []libreswan.Connection
	for _, s := range r.Sites {
		sites = append(sites, libreswan.Connection{Name: s.Name, Local: s.VIP, ID: "vip", Peer: s.Name, Near: r.Target.Networks()[0], Far: s.Subnets[0]})
	}
	var drivers []*driver.Driver
	for _, rs := range r.RealServers {
		d, err := libreswan.Start(r.Context(), r.Lab, rs.NS, libreswan.Globals{Liveness: 30 * time.Second, Patience: 60 * time.Second}, "known to all", sites...)
		r.must("start libreswan", err)
		all[rs.Name] = d
		kernel, err := xfrm.New(xfrm.Options{Space: spaceOf(rs.NS), VIPs: r.VIPs})
		r.must("make a driver", err)
		one, err := driver.New(driver.Options{RunDir: filepath.Join(rs.NS.RunDir(), "pluto"), Kernel: kernel})
		r.must("make a driver", err)
		drivers = append(drivers, one)
	}
	return drivers
}

func (r *rig) callByPluto(all map[string]*libreswan.Daemon) {
	r.Helper()
	var mu sync.Mutex
	var started sync.WaitGroup
	for _, s := range r.Sites {
		started.Go(func() {
			d, err := libreswan.Start(r.Context(), r.Lab, s.NS, libreswan.Globals{Liveness: 2 * time.Second, Patience: 5 * time.Second}, "known to all", libreswan.Connection{
				Name: "vip", Local: s.Local, ID: s.Name, Remote: s.VIP, Peer: "vip", Near: s.Subnets[0], Far: r.Target.Networks()[0], Calls: true,
			})
			if err != nil {
				r.Errorf("start libreswan: %v", err)
			}
			mu.Lock()
			defer mu.Unlock()
			all[s.Name] = d
		})
	}
	started.Wait()
}

func (r *rig) upByPluto(d *driver.Driver, peer string) agent.Tunnel {
	r.Helper()
	var found agent.Tunnel
	r.until(90*time.Second, "wait for "+peer, func() error {
		all, err := d.Tunnels(r.Context())
		for _, t := range all {
			if t.Peer == peer {
				found = t
				return nil
			}
		}
		return errors.Join(err, fmt.Errorf("it tells of %v", all))
	})
	return found
}

func spaceOf(ns *lab.Namespace) space.Space { return space.Space(ns.Name) }

// showIfFailed shows what whack says of all.
func (r *rig) showIfFailed(rs *lab.RealServer) {
	for _, what := range []string{"--trafficstatus", "--status"} {
		if !r.Failed() {
			return
		}
		out, err := exec.Command(driver.DefaultProgram, "--rundir", filepath.Join(rs.NS.RunDir(), "pluto"), what).CombinedOutput()
		r.Logf("%s: %s (%v):\n%s", rs.Name, what, err, out)
	}
}
