package terminators

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"tunneldirector/integration/lab"
	"tunneldirector/realserver/space"
	"tunneldirector/realserver/terminator"
	"tunneldirector/realserver/terminator/exec"
)

// A tincRig has tincd at sites and real servers, which the example program serves.
type tincRig struct {
	*rig
	tincd   string
	env     []string
	keys    map[string]*rsa.PrivateKey // by node
	drivers []terminator.Terminator
	servers []*lab.Process
}

// patience of tinc: how long it leaves a peer alone, and waits for its answer, in seconds.
const tincPing, tincTimeout = 20, 5

func newTincRig(t *testing.T, sites int) *tincRig {
	t.Helper()
	paths, env := unpacked(t, []string{"tinc"}, "usr/sbin/tincd")
	r := &tincRig{rig: newRig(t, lab.Options{Sites: sites}), tincd: paths[0], env: env, keys: map[string]*rsa.PrivateKey{}}
	nodes := []string{"vip"}
	for _, s := range r.Sites {
		nodes = append(nodes, node(s))
		r.pin(s, 0)
	}
	for _, n := range nodes {
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		r.must("make a key", err)
		r.keys[n] = k
	}
	program, err := filepath.Abs(filepath.Join("..", "..", "examples", "agent", "tinc"))
	r.must("find the program", err)
	for i, rs := range r.RealServers {
		if i > 0 {
			time.Sleep(1100 * time.Millisecond) // or both number what they say alike, and a site that moves takes it for said already
		}
		r.server(rs, program)
	}
	for _, s := range r.Sites {
		dir := r.config(node(s), "ConnectTo = vip\n", "vip", node(s))
		r.script(dir, "tinc-up", `ip link set "$INTERFACE" up`)
		r.process(s.NS, r.env, r.tincd, "-D", "-d2", "-c", dir, "--pidfile="+filepath.Join(dir, "pid"))
		r.up(s.NS, "ti0")
		r.must("route", s.NS.Route(r.inner(), netip.Addr{}, "ti0"))
	}
	return r
}

func node(s *lab.Site) string { return strings.ReplaceAll(s.Name, "-", "_") }

func (r *tincRig) server(rs *lab.RealServer, program string) {
	r.Helper()
	all := []string{"vip"}
	for _, s := range r.Sites {
		all = append(all, node(s))
	}
	dir, state := r.config("vip", fmt.Sprintf("BindToAddress = %s 655\nStrictSubnets = yes\n", lab.VIP4), all...), r.TempDir()
	r.script(dir, "tinc-up", fmt.Sprintf("%s start %s %s\nip link set \"$INTERFACE\" up", program, dir, state))
	r.script(dir, "host-up", fmt.Sprintf("exec %s up %s %s", program, dir, state))
	r.script(dir, "host-down", fmt.Sprintf("exec %s down %s %s", program, dir, state))
	r.servers = append(r.servers, r.process(rs.NS, r.env, r.tincd, "-D", "-d2", "-c", dir, "--pidfile="+filepath.Join(state, "pid")))
	r.up(rs.NS, "ti0")
	r.must("route", rs.NS.Route(lab.Covers[0], netip.Addr{}, "ti0"))
	ask := func(verb string) []string { return []string{program, verb, dir, state} }
	r.drivers = append(r.drivers, exec.New(exec.Options{
		Tunnels: ask("tunnels"), Adopt: ask("adopt"), Release: ask("release"), Work: ask("work"), Space: space.Space(rs.NS.Name),
	}))
}

// config makes a node's directory, which knows the nodes known.
func (r *tincRig) config(self, more string, known ...string) string {
	r.Helper()
	dir := r.TempDir()
	write := func(name, text string) {
		r.must("configure", os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	write("tinc.conf", fmt.Sprintf("Name = %s\nInterface = ti0\nPingInterval = %d\nPingTimeout = %d\n%s", self, tincPing, tincTimeout, more))
	write("rsa_key.priv", string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(r.keys[self])})))
	r.must("configure", os.Mkdir(filepath.Join(dir, "hosts"), 0o700))
	for _, n := range known {
		text := fmt.Sprintf("Address = %s 655\nSubnet = %s\n", lab.VIP4, r.inner())
		if n != "vip" {
			text = ""
			for _, s := range r.Sites {
				if node(s) == n {
					text = fmt.Sprintf("Subnet = %s\n", s.Subnets[0])
				}
			}
		}
		public := pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: x509.MarshalPKCS1PublicKey(&r.keys[n].PublicKey)})
		write(filepath.Join("hosts", n), text+string(public))
	}
	return dir
}

func (r *tincRig) script(dir, name, text string) {
	r.Helper()
	r.must("write a script", os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\nset -e\n"+text+"\n"), 0o700))
}

// TestTinc: a site that is told by the old real server dials again, and lands at the new one; where that is dead, it has to notice.
func TestTinc(t *testing.T) {
	t.Parallel()
	r := newTincRig(t, 2)
	s, other := r.Sites[0], r.Sites[1]
	before := r.tunnelOf(r.drivers[0], s, 30*time.Second)
	untouched := r.tunnelOf(r.drivers[0], other, 30*time.Second)
	if before.Peer != node(s) || before.Endpoint != netip.AddrPortFrom(s.Endpoint, 0) || len(before.Subnets) != 1 || before.Subnets[0] != s.Subnets[0] ||
		time.Since(before.Since) > time.Minute {
		t.Errorf("the tunnel is told as %+v", before)
	}
	r.flows(s, time.Now(), 20*time.Second)
	if err := r.drivers[1].Adopt(t.Context(), inherited(s, before)); !errors.Is(err, terminator.ErrWait) {
		t.Errorf("adopt: %v", err)
	}
	w, err := r.drivers[0].(terminator.Worker).Work(t.Context())
	if r.must("work", err); len(w.Processes) != 1 || w.Processes[0] != r.servers[0].Cmd.Process.Pid || w.Devices[0] != "ti0" || w.Threads != 1 {
		t.Errorf("it works with %+v", w)
	}

	time.Sleep(1100 * time.Millisecond) // tinc compares times of files in seconds
	begin := time.Now()
	r.pin(s, 1)
	r.must("release", r.drivers[0].Release(t.Context(), inherited(s, before)))
	measured(t, "tinc, release at the old real server", r.flows(s, begin, time.Minute))
	r.tunnelOf(r.drivers[1], s, 10*time.Second)
	if now := r.tunnelOf(r.drivers[0], other, 10*time.Second); !now.Since.Equal(untouched.Since) {
		t.Errorf("the other site's tunnel was of %s, now of %s", untouched.Since, now.Since)
	}
	stranger := inherited(s, before)
	stranger.Peer = "nobody"
	r.must("release what is not there", r.drivers[0].Release(t.Context(), stranger))
	stranger.Peer = "../vip"
	if err := r.drivers[0].Release(t.Context(), stranger); err == nil {
		t.Error("it took a path for a node's name")
	}

	begin = time.Now()
	r.servers[1].Kill()
	if _, err := r.drivers[1].Tunnels(t.Context()); !errors.Is(err, terminator.ErrGone) {
		t.Errorf("a dead tincd: %v", err)
	}
	r.pin(s, 0)
	measured(t, fmt.Sprintf("tinc, process killed, the host closes its connections, second retry (PingInterval %d s)", tincPing), r.flows(s, begin, 2*time.Minute))
	r.must("end tincd", r.servers[0].Stop(syscall.SIGTERM, 10*time.Second))
	if _, err := r.drivers[0].Tunnels(t.Context()); !errors.Is(err, terminator.ErrGone) {
		t.Errorf("a tincd that has ended: %v", err)
	}
}
