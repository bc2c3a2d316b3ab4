package agents

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tunneldirector/integration/daemon"
	"tunneldirector/integration/guest/strongswan"
	"tunneldirector/integration/lab"
	"tunneldirector/integration/software"
	"tunneldirector/integration/spaces"
)

// A kind is tunnel software.
type kind interface {
	service() daemon.VirtualService
	bare() bool                                       // the lab does not run it
	terminator(l *lab.Lab, rs *lab.RealServer) string // as the agent's file has it
	serve(r *rig, rs *lab.RealServer)                 // starts it on a real server
	call(r *rig, sites []*lab.Site)                   // starts it at sites
	kill(r *rig, rs *lab.RealServer)                  // of a real server
}

// cache is where packages are unpacked to.
var cache = filepath.Join("..", "..", "build", "vm")

// beyond is the target's network, which tunnels lead to.
var beyond = netip.MustParsePrefix("192.0.2.128/25")

// wireGuard runs in the lab's own process.
type wireGuard struct{}

func (wireGuard) service() daemon.VirtualService {
	return daemon.VirtualService{Name: daemon.Service, Protocols: []string{"udp/51820"}, Check: "{udp: 51820}"}
}
func (wireGuard) bare() bool                       { return false }
func (wireGuard) call(*rig, []*lab.Site)           {}
func (wireGuard) kill(_ *rig, rs *lab.RealServer)  { rs.KillTerminator() }
func (wireGuard) serve(r *rig, rs *lab.RealServer) { r.must("start WireGuard", rs.StartTerminator()) }
func (wireGuard) terminator(_ *lab.Lab, rs *lab.RealServer) string {
	return fmt.Sprintf("{kind: wireguard, device: wg0, socket: %s, sends_from_vip: true}", rs.Control())
}

// charon is strongSwan, which carries ESP in UDP itself. Sites notice a dead peer after 5 s, and 8 s of silence more.
type charon struct {
	strongswan.Software
	mu      sync.Mutex
	servers map[*lab.RealServer]*strongswan.Daemon
}

var retransmits = strongswan.Retransmits{Timeout: time.Second, Base: 1.5, Tries: 3}

const secret = "of the lab"

func newCharon(t *testing.T) *charon {
	t.Helper()
	s, err := software.StrongSwan(t.Context(), cache, logger(t))
	if err != nil {
		spaces.Absent(t, "strongSwan: "+err.Error())
	}
	return &charon{Software: s, servers: map[*lab.RealServer]*strongswan.Daemon{}}
}

func (*charon) service() daemon.VirtualService {
	return daemon.VirtualService{Name: "ipsec", Protocols: []string{"esp", "udp/500", "udp/4500"}, Check: "{udp: 500}"}
}
func (*charon) bare() bool { return true }
func (*charon) terminator(*lab.Lab, *lab.RealServer) string {
	return "{kind: strongswan, socket: /run/charon.vici, kernel_ipsec: false, proposals: [aes128gcm16-prfsha256-ecp256]}"
}

func (c *charon) serve(r *rig, rs *lab.RealServer) {
	r.Helper()
	d, err := c.Start(r.ctx, r.Lab, rs.NS, retransmits)
	r.must("start charon", err)
	c.mu.Lock()
	c.servers[rs] = d
	c.mu.Unlock()
	r.must("configure charon", d.Load(strongswan.Connection{
		Name: "sites", Local: lab.VIP4, Near: []netip.Prefix{beyond}, Far: lab.Covers[:1], Fragments: true, Liveness: 30 * time.Second,
	}, strongswan.Identity{Name: "vip", Secret: secret}))
}

// call starts one charon on each machine of sites.
func (c *charon) call(r *rig, sites []*lab.Site) {
	r.Helper()
	machines := map[*lab.Namespace][]*lab.Site{}
	for _, s := range sites {
		machines[s.NS] = append(machines[s.NS], s)
	}
	var all sync.WaitGroup
	errs := make(chan error, len(machines))
	for ns, own := range machines {
		all.Go(func() { errs <- c.callFrom(r, ns, own) })
	}
	all.Wait()
	close(errs)
	for err := range errs {
		r.must("start charon", err)
	}
}

func (c *charon) callFrom(r *rig, ns *lab.Namespace, sites []*lab.Site) error {
	d, err := c.Start(r.ctx, r.Lab, ns, retransmits)
	for _, s := range sites {
		if err == nil {
			err = d.Load(strongswan.Connection{
				Name: s.Name, Local: s.Local, Remote: s.VIP, Peer: "vip", Near: s.Subnets, Far: []netip.Prefix{beyond}, Liveness: 5 * time.Second, Calls: true,
			}, strongswan.Identity{Name: s.Name, Secret: secret})
		}
	}
	return err
}

func (c *charon) kill(_ *rig, rs *lab.RealServer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.servers[rs].Kill()
}

// fastd has a directory that each real server's includes peers from, for the agent to clear them by.
type fastd struct {
	*software.Fastd
	servers map[*lab.RealServer]*lab.Process
}

func newFastd(t *testing.T) *fastd {
	t.Helper()
	f, err := software.NewFastd(t.Context(), cache, t.TempDir(), kept(t, "fastd"))
	if err != nil {
		spaces.Absent(t, "fastd: "+err.Error())
	}
	f.Clear = t.TempDir()
	return &fastd{f, map[*lab.RealServer]*lab.Process{}}
}

func (*fastd) service() daemon.VirtualService {
	return daemon.VirtualService{Name: "fastd", Protocols: []string{"udp/10000"}, Check: "{udp: 10000}"}
}
func (*fastd) bare() bool { return true }
func (f *fastd) terminator(l *lab.Lab, rs *lab.RealServer) string {
	var subnets []string
	for _, s := range l.Sites {
		subnets = append(subnets, fmt.Sprintf("%s: [%s]", s.Name, s.Subnets[0]))
	}
	return fmt.Sprintf("{kind: fastd, socket: %s, clear: %s, subnets: {%s}}", software.FastdSocket, f.ClearOf(rs), strings.Join(subnets, ", "))
}

func (f *fastd) serve(r *rig, rs *lab.RealServer) {
	r.Helper()
	if len(f.servers) == 0 {
		r.must("make keys", f.Know(r.ctx, r.Sites))
	}
	p, err := f.Serve(r.ctx, r.Lab, rs)
	r.must("start fastd", err)
	f.servers[rs] = p
}

func (f *fastd) call(r *rig, sites []*lab.Site) {
	r.Helper()
	for _, s := range sites {
		_, err := f.Call(r.ctx, r.Lab, s, beyond)
		r.must("start fastd", err)
	}
}

func (f *fastd) kill(_ *rig, rs *lab.RealServer) { f.servers[rs].Kill() }

// tinc is driven by the program of the examples.
type tinc struct {
	*software.Tinc
	servers map[*lab.RealServer]*lab.Process
}

func newTinc(t *testing.T) *tinc {
	t.Helper()
	s, err := software.NewTinc(t.Context(), cache, filepath.Join("..", "..", "examples", "agent", "tinc"), t.TempDir(), kept(t, "tinc"))
	if err != nil {
		spaces.Absent(t, "tinc: "+err.Error())
	}
	return &tinc{s, map[*lab.RealServer]*lab.Process{}}
}

func (*tinc) service() daemon.VirtualService {
	return daemon.VirtualService{Name: "tinc", Protocols: []string{"tcp/655", "udp/655"}, Check: "{tcp: 655}"}
}
func (*tinc) bare() bool { return true }
func (s *tinc) terminator(_ *lab.Lab, rs *lab.RealServer) string {
	ask := func(verb string) string { return verb + ": [" + strings.Join(s.Ask(rs, verb), ", ") + "]" }
	return "{kind: exec, " + strings.Join([]string{ask("tunnels"), ask("adopt"), ask("release"), ask("work")}, ", ") + "}"
}

func (s *tinc) serve(r *rig, rs *lab.RealServer) {
	r.Helper()
	if len(s.servers) == 0 {
		r.must("make keys", s.Know(r.Sites, beyond))
	} else {
		r.rest(1100 * time.Millisecond) // or both number what they say alike, and a site that moves takes it for said already
	}
	p, err := s.Serve(r.ctx, r.Lab, rs)
	r.must("start tinc", err)
	s.servers[rs] = p
}

func (s *tinc) call(r *rig, sites []*lab.Site) {
	r.Helper()
	for _, site := range sites {
		_, err := s.Call(r.ctx, r.Lab, site)
		r.must("start tinc", err)
	}
}

func (s *tinc) kill(_ *rig, rs *lab.RealServer) { s.servers[rs].Kill() }

// kept is where software writes what it does, for a test that fails.
func kept(t *testing.T, name string) io.Writer {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		f.Close()
		if text, _ := os.ReadFile(f.Name()); t.Failed() {
			t.Logf("%s, all of them:\n%s", name, text[max(0, len(text)-20_000):])
		}
	})
	return f
}
