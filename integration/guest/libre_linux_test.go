package guest

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"tunneldirector/integration/guest/libreswan"
	"tunneldirector/integration/lab"
)

// globals are libreswan's settings, short so that tests are.
var globals = struct{ site, server libreswan.Globals }{
	site:   libreswan.Globals{Liveness: 2 * time.Second, Patience: 5 * time.Second},
	server: libreswan.Globals{Liveness: 30 * time.Second, Patience: 60 * time.Second},
}

var libreSettings = fmt.Sprintf("(libreswan; site: DPD %s, retransmit-timeout %s; real server: DPD %s)", globals.site.Liveness,
	globals.site.Patience, globals.server.Liveness)

// libre is libreswan at sites and real servers of a rig. All real servers are the same to a site.
type libre struct {
	*rig
	sites   map[*lab.Site]*libreswan.Daemon
	servers map[*lab.RealServer]*libreswan.Daemon
}

// TestLibreswan: a site with an address of its own, and two behind NAT.
func TestLibreswan(t *testing.T) {
	onPlanes(t, func(t *testing.T, plane string) {
		r := newRig(t, setup{plane: plane, lab: lab.Options{Sites: 3, RealServers: 2, BehindNAT: 2}, service: ipsec("dr")})
		r.warmUp()
		w := &libre{rig: r, sites: map[*lab.Site]*libreswan.Daemon{}, servers: map[*lab.RealServer]*libreswan.Daemon{}}
		r.Cleanup(w.tellIfFailed)
		w.serveBy()
		r.serve(r.Sites...)
		w.run("establish", (*libre).testEstablish)
		w.run("rekey", (*libre).testRekey)
		w.run("repin, old real server says goodbye", (*libre).testRepin)
	})
}

func (w *libre) run(name string, test func(w *libre)) {
	w.Helper()
	w.rig.run(name, func(r *rig) { test(&libre{r, w.sites, w.servers}) })
}

const secret = "known to all of the lab"

// serveBy starts pluto at all real servers.
func (w *libre) serveBy() {
	w.Helper()
	var sites []libreswan.Connection
	for _, s := range w.Sites {
		sites = append(sites, libreswan.Connection{Name: s.Name, Local: s.VIP, ID: "vip", Peer: s.Name, Near: w.Target.Networks()[0], Far: s.Subnets[0]})
	}
	var mu sync.Mutex
	var all sync.WaitGroup
	var errs []error
	for _, rs := range w.RealServers {
		all.Go(func() {
			d, err := libreswan.Start(w.ctx, w.Lab, rs.NS, globals.server, secret, sites...)
			mu.Lock()
			defer mu.Unlock()
			w.servers[rs] = d
			errs = append(errs, err)
		})
	}
	all.Wait()
	w.must("start libreswan", errors.Join(errs...))
}

// call starts pluto at the sites, which call the virtual IP.
func (w *libre) call(sites ...*lab.Site) {
	w.Helper()
	var mu sync.Mutex
	var all sync.WaitGroup
	var errs []error
	for _, s := range sites {
		all.Go(func() {
			d, err := libreswan.Start(w.ctx, w.Lab, s.NS, globals.site, secret, libreswan.Connection{
				Name: "vip", Local: s.Local, ID: s.Name, Remote: s.VIP, Peer: "vip", Near: s.Subnets[0], Far: w.Target.Networks()[0], Calls: true,
			})
			mu.Lock()
			defer mu.Unlock()
			w.sites[s] = d
			errs = append(errs, err)
		})
	}
	all.Wait()
	w.must("start libreswan", errors.Join(errs...))
}

// up is the newest Child SA that a pluto has of a connection; 0: none.
func (w *libre) up(d *libreswan.Daemon, connection string) (int, error) {
	all, err := d.Traffic(w.ctx)
	newest := 0
	for _, t := range all {
		if t.Connection == connection {
			newest = max(newest, t.SA)
		}
	}
	return newest, err
}

// arrive waits until a site and the real server that the director says have a tunnel.
func (w *libre) arrive(s *lab.Site, d time.Duration) *lab.RealServer {
	w.Helper()
	rs := w.placed(s)
	w.until(d, "wait for "+s.Name+" at "+rs.Name, func() error {
		there, err := w.up(w.servers[rs], s.Name)
		here, ask := w.up(w.sites[s], "vip")
		if there == 0 || here == 0 {
			err = errors.Join(err, fmt.Errorf("there is no tunnel: %d, %d", there, here))
		}
		return errors.Join(err, ask)
	})
	return rs
}

// tellIfFailed shows the end of what the plutos wrote.
func (w *libre) tellIfFailed() {
	if !w.Failed() {
		return
	}
	tell := func(name string, d *libreswan.Daemon) {
		if d == nil {
			return
		}
		lines := strings.Split(d.Log(), "\n")
		w.Logf("pluto of %s:\n%s", name, strings.Join(lines[max(0, len(lines)-40):], "\n"))
	}
	for _, s := range w.Sites {
		tell(s.Name, w.sites[s])
	}
	for _, rs := range w.RealServers {
		tell(rs.Name, w.servers[rs])
	}
}
