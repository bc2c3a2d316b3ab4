package main

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"tunneldirector/affinity"
	td "tunneldirector/director"
	"tunneldirector/director/api"
	"tunneldirector/director/config"
	"tunneldirector/director/plane"
	"tunneldirector/director/plane/ipvs"
	"tunneldirector/director/plane/xdp"
)

// One plane after the other over the same table: each forwards what the one before did, and nothing of that one is left. The
// test runs itself in a network namespace of its own, because planes work in that of the process.
func TestPlanesOneAfterAnother(t *testing.T) {
	if os.Getenv("IN_ITS_OWN_NETWORK") == "" {
		alone(t)
		return
	}
	w := newPlanes(t)
	w.run(config.PlaneXDP, func(d *td.Director) { w.furnish(d) })
	w.run(config.PlaneIPVS, func(d *td.Director) {
		if _, err := os.Stat(xdp.DefaultPinPath); !os.IsNotExist(err) {
			t.Errorf("plane xdp left its maps behind: %v", err)
		}
		w.audit(d)
	})
	w.run(config.PlaneXDP, func(*td.Director) {
		if left, err := leftByIPVS(); left || err != nil {
			t.Errorf("plane ipvs is still there: %v, %v", left, err)
		}
	})
	w.run(config.PlaneAuto, func(d *td.Director) {
		if s := w.status(d); s.Plane.Kind != config.PlaneIPVS || s.Plane.ChosenBy != byAuto || s.Plane.Why == "" {
			t.Errorf("auto chose %+v", s.Plane)
		}
		gre := &affinity.Service{Name: "plain", VIPs: []netip.Addr{netip.MustParseAddr("192.0.2.20")}, Match: []affinity.Match{{Proto: 47}}}
		if r := w.do(d, affinity.PutService{By: anybody, Service: gre})[0]; r.Err == nil || !strings.Contains(r.Err.Error(), "plane: xdp") {
			t.Errorf("GRE on plane ipvs: %v", r.Err)
		}
	})
	if err := uninstall(t.Context(), planeInterfaces(w.cfg.Interfaces), slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	if left, err := leftByIPVS(); left || err != nil {
		t.Errorf("after uninstall plane ipvs is still there: %v, %v", left, err)
	}
}

// alone runs the test again as a process in a new network namespace.
func alone(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make network namespaces")
	}
	if err := ipvs.Probe(); err != nil {
		t.Skipf("this kernel cannot do both planes: %v", err)
	}
	if _, err := os.Stat(xdp.DefaultPinPath); !os.IsNotExist(err) {
		t.Skipf("a director seems to run here: %s exists", xdp.DefaultPinPath)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(self, "-test.run=^"+t.Name()+"$", "-test.v")
	c.Env = append(os.Environ(), "IN_ITS_OWN_NETWORK=1")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	out, err := c.CombinedOutput()
	t.Cleanup(func() { _ = xdp.Uninstall(xdp.DefaultPinPath) })
	t.Logf("%s", out)
	if err != nil {
		t.Error(err)
	}
}

var anybody = affinity.Actor{Name: "op", Any: true}

// planes is a machine, a disk, and a tunnel over them.
type planes struct {
	*testing.T
	cfg  config.Config
	disk *disk
}

func newPlanes(t *testing.T) *planes {
	t.Helper()
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "wire"}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"lo", "eth0", "wire"} {
		l, err := netlink.LinkByName(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.LinkSetUp(l); err != nil {
			t.Fatal(err)
		}
		if a, _ := netlink.ParseAddr("198.51.100.1/24"); name == "eth0" {
			if err := netlink.AddrAdd(l, a); err != nil {
				t.Fatal(err)
			}
			mac := []byte{2, 0, 0, 0, 0, 11}
			if err := netlink.NeighAdd(&netlink.Neigh{LinkIndex: l.Attrs().Index, State: netlink.NUD_PERMANENT, IP: []byte{198, 51, 100, 11}, HardwareAddr: mac}); err != nil {
				t.Fatal(err)
			}
		}
	}
	cfg := config.Default()
	cfg.Name, cfg.IPVS.SetSysctls = "d1", true
	cfg.Interfaces = []config.Interface{{Name: "eth0", Roles: []string{config.RoleTunnel, config.RoleSubnet, config.RoleRealServers}}}
	return &planes{t, cfg, &disk{records: map[string]affinity.Change{}}}
}

// run is a director with a plane, from its start to its end.
func (w *planes) run(kind string, during func(*td.Director)) {
	w.Helper()
	w.cfg.Plane = kind
	log := slog.New(slog.NewTextHandler(w.Output(), nil))
	stored, err := td.Load(w.disk)
	if err != nil {
		w.Fatal(err)
	}
	k, err := openKernel(w.cfg, stored, log)
	if err != nil {
		w.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.Context())
	d, err := td.Open(ctx, stored, td.Options{Name: "d1", Plane: k.plane, PlaneKind: k.choice.kind, PlaneBy: k.choice.by, PlaneWhy: k.choice.why, Supplant: k.supplant,
		PlaneDetail: k.detail, PlaneWarnings: k.warns, Host: k.host, Prober: k.prober, Log: log})
	if err != nil {
		w.Fatal(err)
	}
	k.report(d.Report)
	done := make(chan error, 2)
	go func() { done <- k.run(ctx) }()
	go func() { done <- d.Run(ctx) }()
	during(d)
	w.forwards(d, k.plane)
	if s := w.status(d); !s.Plane.InSync || len(s.NotReady) > 0 {
		w.Errorf("plane %s: %+v, not ready: %q", kind, s.Plane, s.NotReady)
	}
	cancel()
	for range 2 {
		if err := <-done; err != nil {
			w.Errorf("plane %s: %v", kind, err)
		}
	}
	if err := k.close(); err != nil {
		w.Errorf("plane %s: %v", kind, err)
	}
}

var (
	vip10  = netip.MustParseAddr("192.0.2.10")
	site5  = netip.MustParseAddr("203.0.113.5")
	behind = netip.MustParsePrefix("100.64.1.0/24")
)

// furnish makes a service, a real server that is alive, and a tunnel.
func (w *planes) furnish(d *td.Director) {
	w.Helper()
	w.must(d, affinity.PutService{By: anybody, Service: &affinity.Service{Name: "ipsec", VIPs: []netip.Addr{vip10}, Match: []affinity.Match{{Proto: 50}, {Proto: 17, Lo: 500, Hi: 500}}}},
		affinity.PutTenant{By: anybody, Tenant: &affinity.Tenant{Covers: []netip.Prefix{netip.MustParsePrefix("100.64.0.0/10")}}},
		affinity.PutRealServer{By: anybody, RealServer: &affinity.RealServer{Name: "rs1", Addrs: []netip.Addr{netip.MustParseAddr("198.51.100.11")}, Services: []string{"ipsec"}, Weight: 100}})
	d.Report(w.Context(), td.Verdict{RealServer: "rs1", Alive: true, Cause: "said so"})
	w.until("rs1 is alive", func() error {
		if _, born := d.Table().LifeOf("rs1"); !born {
			return fs.ErrNotExist
		}
		return nil
	})
	w.must(d, affinity.PutTunnel{By: anybody, Tunnel: &affinity.Tunnel{ID: "site-5", Service: "ipsec", Endpoints: []affinity.Endpoint{netip.AddrPortFrom(site5, 0)}, Subnets: []netip.Prefix{behind}}})
}

func (w *planes) do(d *td.Director, ops ...affinity.Op) []affinity.Result {
	w.Helper()
	results, err := d.Do(w.Context(), ops)
	if err != nil {
		w.Fatal(err)
	}
	return results
}

func (w *planes) must(d *td.Director, ops ...affinity.Op) {
	w.Helper()
	for i, r := range w.do(d, ops...) {
		if r.Err != nil {
			w.Fatalf("%T: %v", ops[i], r.Err)
		}
	}
}

// forwards expects both directions of the tunnel at the real server.
func (w *planes) forwards(d *td.Director, p plane.Plane) {
	w.Helper()
	for name, packet := range map[string]plane.Packet{
		"ESP":          {Interface: "eth0", Src: site5, Dst: vip10, Proto: 50, Hops: 9},
		"IKE":          {Interface: "eth0", Src: site5, Dst: vip10, Proto: 17, SrcPort: 500, DstPort: 500, Hops: 9},
		"the way back": {Interface: "eth0", Src: netip.MustParseAddr("198.51.100.77"), Dst: behind.Addr().Next(), Proto: 17, Hops: 9},
	} {
		w.until(name, func() error {
			dec, err := p.Lookup(packet)
			if err == nil && d.Table().NameAt(dec.RealServer) != "rs1" {
				err = fmt.Errorf("goes to %q: %v", d.Table().NameAt(dec.RealServer), dec.Reason)
			}
			return err
		})
	}
}

// audit expects the kernel to be as the table says.
func (w *planes) audit(d *td.Director) {
	w.Helper()
	sum, err := d.View().(api.Auditor).Audit(w.Context(), func(x api.Difference) { w.Errorf("difference: %+v", x) })
	if err != nil || sum.Equal == 0 {
		w.Errorf("audit: %+v, %v", sum, err)
	}
}

func (w *planes) status(d *td.Director) api.Status {
	w.Helper()
	s, err := d.View().Status(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	return s
}

// until asks until there is no error.
func (w *planes) until(what string, ask func() error) {
	w.Helper()
	var err error
	for limit := time.Now().Add(5 * time.Second); time.Now().Before(limit); time.Sleep(10 * time.Millisecond) {
		if err = ask(); err == nil {
			return
		}
	}
	w.Errorf("%s: %v", what, err)
}
