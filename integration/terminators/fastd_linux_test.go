package terminators

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"tunneldirector/integration/lab"
	"tunneldirector/realserver/space"
	"tunneldirector/realserver/terminator"
	"tunneldirector/realserver/terminator/fastd"
)

const fastdPort = 10000

// A fastdRig has fastd at sites and real servers, and drivers of the latter.
type fastdRig struct {
	*rig
	program string
	env     []string
	drivers []*fastd.Terminator
	options []fastd.Options
	servers []*lab.Process
	peers   string // a directory that all real servers include peers from
}

type fastdKey struct{ secret, public string }

func (r *fastdRig) key() fastdKey {
	r.Helper()
	cmd := exec.CommandContext(r.Context(), r.program, "--generate-key")
	cmd.Env = r.env
	out, err := cmd.Output()
	r.must("make a key", err)
	m := regexp.MustCompile(`(?s)Secret: ([0-9a-f]{64}).*Public: ([0-9a-f]{64})`).FindSubmatch(out)
	if m == nil {
		r.Fatal("fastd made no key")
	}
	return fastdKey{string(m[1]), string(m[2])}
}

// newFastdRig starts fastd everywhere, with all sites at the first real server. With clear its drivers have a directory of their own.
func newFastdRig(t *testing.T, sites int, clear bool) *fastdRig {
	t.Helper()
	paths, env := unpacked(t, []string{"fastd"}, "usr/bin/fastd")
	r := &fastdRig{rig: newRig(t, lab.Options{Sites: sites, IPv6: true}), program: paths[0], env: env, peers: t.TempDir()}
	service := r.key()
	var inline strings.Builder
	keys := make([]fastdKey, len(r.Sites))
	for i, s := range r.Sites {
		keys[i] = r.key()
		if i%2 == 0 {
			fmt.Fprintf(&inline, "peer %q { key %q; }\n", s.Name, keys[i].public)
			continue
		}
		// Of what fastd reads again at SIGHUP, too.
		r.must("write a peer", os.WriteFile(filepath.Join(r.peers, s.Name), []byte("key \""+keys[i].public+"\";\n"), 0o644))
	}
	for _, rs := range r.RealServers {
		r.startServer(rs, service.secret, inline.String(), clear)
	}
	for i, s := range r.Sites {
		r.pin(s, 0)
		r.startSite(s, keys[i].secret, service.public)
	}
	return r
}

func (r *fastdRig) startSite(s *lab.Site, secret, service string) {
	r.Helper()
	config := filepath.Join(r.TempDir(), "fastd.conf")
	r.must("configure", os.WriteFile(config, fmt.Appendf(nil, `log level debug; interface "fd0"; mode tap; mtu 1400; method "salsa2012+umac"; secret %q;
peer "vip" { key %q; remote %s; }
`, secret, service, fastdAt(s.VIP)), 0o600))
	r.process(s.NS, r.env, r.program, "-c", config)
	r.up(s.NS, "fd0", fmt.Sprintf("172.20.0.%d/24", s.Index))
	r.must("route", s.NS.Route(r.inner(), netip.MustParseAddr("172.20.0.254"), "fd0"))
}

func (r *fastdRig) startServer(rs *lab.RealServer, secret, peers string, clear bool) {
	r.Helper()
	o := fastd.Options{
		Socket: filepath.Join(rs.NS.RunDir(), "fastd.sock"), Space: space.Space(rs.NS.Name), VIPs: r.VIPs, Port: fastdPort,
		Subnets: map[string][]netip.Prefix{},
	}
	var b strings.Builder
	fmt.Fprintf(&b, "log level debug; interface \"fd0\"; mode tap; mtu 1400; method \"salsa2012+umac\"; secret %q; status socket \"/run/fastd.sock\";\n", secret)
	for _, vip := range r.VIPs {
		fmt.Fprintf(&b, "bind %s;\n", fastdAt(vip))
	}
	fmt.Fprintf(&b, "include peers from %q;\n", r.peers)
	if clear {
		o.Clear = r.TempDir()
		fmt.Fprintf(&b, "include peers from %q;\n", o.Clear)
	}
	config := filepath.Join(r.TempDir(), "fastd.conf")
	r.must("configure", os.MkdirAll(rs.NS.RunDir(), 0o755))
	r.must("configure", os.WriteFile(config, []byte(b.String()+peers), 0o600))
	r.servers = append(r.servers, r.process(rs.NS, r.env, r.program, "-c", config))
	r.up(rs.NS, "fd0", "172.20.0.254/24")
	for _, s := range r.Sites {
		o.Subnets[s.Name] = s.Subnets
		r.must("route", rs.NS.Route(s.Subnets[0], netip.MustParseAddr(fmt.Sprintf("172.20.0.%d", s.Index)), "fd0"))
	}
	r.drivers, r.options = append(r.drivers, fastd.New(o)), append(r.options, o)
}

func fastdAt(a netip.Addr) string {
	if a.Is6() {
		return fmt.Sprintf("[%s]:%d", a, fastdPort)
	}
	return fmt.Sprintf("%s:%d", a, fastdPort)
}

// TestFastdAdopt: a successor that never had the tunnel has it in a moment, though the site knows of nothing and is idle. (That the
// first packet takes a second is ARP's, whose first question came before the tunnel.)
func TestFastdAdopt(t *testing.T) {
	t.Parallel()
	r := newFastdRig(t, 2, true)
	for i, s := range r.Sites { // one by IPv4, one by IPv6
		before := r.tunnelOf(r.drivers[0], s, 30*time.Second)
		r.flows(s, time.Now(), 20*time.Second)
		if before.Local != s.VIP || len(before.Subnets) != len(s.Subnets) || before.Endpoint.Port() == 0 {
			t.Errorf("the tunnel of %s is told as %+v", s.Name, before)
		}
		time.Sleep(16 * time.Second) // fastd takes no second handshake of a peer within 15 s
		begin := time.Now()
		r.pin(s, 1)
		r.must("adopt", r.drivers[1].Adopt(t.Context(), inherited(s, before)))
		measured(t, fmt.Sprintf("fastd, IPv%d, adopt at a fresh successor", 4+2*i), r.flows(s, begin, 60*time.Second))
		after := r.tunnelOf(r.drivers[1], s, 10*time.Second)
		if after.Peer != before.Peer || after.Endpoint != before.Endpoint || !after.Since.After(before.Since) {
			t.Errorf("before %+v, after %+v", before, after)
		}
		r.must("release", r.drivers[0].Release(t.Context(), inherited(s, before)))
		r.gone(r.drivers[0], s, 20*time.Second)
		r.tunnelOf(r.drivers[1], s, 10*time.Second)
	}
	w, err := r.drivers[0].Work(t.Context())
	r.must("work", err)
	if len(w.Processes) != 1 || w.Processes[0] != r.servers[0].Cmd.Process.Pid || len(w.Devices) != 1 || w.Devices[0] != "fd0" {
		t.Errorf("it works with %+v, its pid is %d", w, r.servers[0].Cmd.Process.Pid)
	}
}

// TestFastdStale: back to a real server that still has the tunnel of before.
func TestFastdStale(t *testing.T) {
	t.Parallel()
	r := newFastdRig(t, 2, true)
	s, other := r.Sites[0], r.Sites[1]
	at := r.tunnelOf(r.drivers[0], s, 30*time.Second)
	untouched := r.tunnelOf(r.drivers[0], other, 30*time.Second)
	time.Sleep(16 * time.Second)
	r.pin(s, 1)
	r.must("adopt", r.drivers[1].Adopt(t.Context(), inherited(s, at)))
	r.flows(s, time.Now(), 30*time.Second)
	time.Sleep(16 * time.Second)
	begin := time.Now()
	r.pin(s, 0)
	r.must("adopt", r.drivers[0].Adopt(t.Context(), inherited(s, at)))
	r.tunnelOf(r.drivers[0], s, 10*time.Second)
	measured(t, "fastd, adopt where a stale tunnel was, until it is told of", time.Since(begin))
	measured(t, "fastd, adopt where a stale tunnel was", r.flows(s, begin, 100*time.Second))
	if now := r.tunnelOf(r.drivers[0], other, 10*time.Second); now.Since.Sub(untouched.Since).Abs() > time.Second {
		t.Errorf("the other site's tunnel was of %s, now of %s", untouched.Since, now.Since)
	}
}

// TestFastdLeftDisabled: an agent that was killed while it cleared a peer leaves it disabled; the next one sees to it.
func TestFastdLeftDisabled(t *testing.T) {
	t.Parallel()
	r := newFastdRig(t, 1, true)
	s := r.Sites[0]
	at := inherited(s, r.tunnelOf(r.drivers[0], s, 30*time.Second))
	file := filepath.Join(r.options[0].Clear, at.Peer)
	r.must("leave a file", os.WriteFile(file, []byte("key \""+at.Peer+"\";\n"), 0o644))
	r.must("read peers again", r.servers[0].Cmd.Process.Signal(syscall.SIGHUP))
	r.gone(r.drivers[0], s, 20*time.Second)
	if err := r.drivers[0].Adopt(t.Context(), at); err == nil || !strings.Contains(err.Error(), "not configured") {
		t.Errorf("adopt of a disabled peer: %v", err)
	}
	next := fastd.New(r.options[0])
	_, err := next.Tunnels(t.Context())
	r.must("ask", err)
	r.until(20*time.Second, "the peer is enabled", func() error { return next.Adopt(t.Context(), at) })
	r.tunnelOf(next, s, 60*time.Second)
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file is still there: %v", err)
	}
}

// TestFastdWithoutDirectory: what cannot be done is said.
func TestFastdWithoutDirectory(t *testing.T) {
	t.Parallel()
	r := newFastdRig(t, 1, false)
	s := r.Sites[0]
	at := r.tunnelOf(r.drivers[0], s, 30*time.Second)
	if err := r.drivers[0].Release(t.Context(), inherited(s, at)); !errors.Is(err, terminator.ErrCannot) {
		t.Errorf("release: %v", err)
	}
	r.must("adopt what is there since a moment", r.drivers[0].Adopt(t.Context(), inherited(s, at)))
	r.tunnelOf(r.drivers[0], s, 0)
	stranger := inherited(s, at)
	stranger.Peer = strings.Repeat("0", 64)
	if err := r.drivers[0].Adopt(t.Context(), stranger); !errors.Is(err, terminator.ErrWait) || !strings.Contains(err.Error(), stranger.Peer) {
		t.Errorf("adopt of a stranger: %v", err)
	}
}
