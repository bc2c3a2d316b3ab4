package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"tunneldirector/cluster/ca"
	"tunneldirector/cmd/console"
	"tunneldirector/cmd/console/consoletest"
	"tunneldirector/director/agent"
	"tunneldirector/director/observe"
	"tunneldirector/integration/spaces"
)

// A rig is a host of one real server in a namespace, reached by a wire, and a director on loopback.
type rig struct {
	t       *testing.T
	dir     string
	host    spaces.Space // where the real server is
	peer    spaces.Space // towards the director
	book    *observe.Book
	file    string // of the agent
	tunnels string // what the terminator has established, as its program prints it
	logs    lines  // of the director
}

// lines are what was logged.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) has(words string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), words)
}

// program is a terminator: what is established stands in a file.
const program = `#!/bin/sh
case $1 in
tunnels) cat "$0.up" ;;
adopt) echo "{\"peer\":\"$TD_PEER\",\"endpoint\":\"$TD_ENDPOINT\",\"local\":\"$TD_LOCAL\"}" >>"$0.up" ;;
release) grep -v "\"$TD_PEER\"" "$0.up" >"$0.new"; mv "$0.new" "$0.up" ;;
esac
`

// newRig is a rig whose director is on this machine's loopback, outside of the namespaces.
func newRig(t *testing.T) *rig {
	return newRigWith(t, func(*rig) (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") })
}

func newRigWith(t *testing.T, listen func(*rig) (net.Listener, error)) *rig {
	s := spaces.New(t, 2)
	spaces.Wire(s[0], "eth0", s[1], "dir0")
	s[0].Give("eth0", "198.51.100.11/24")
	s[1].Give("dir0", "198.51.100.1/24")
	g := &rig{t: t, dir: t.TempDir(), host: s[0], peer: s[1], book: observe.NewBook(nil)}
	g.tunnels = filepath.Join(g.dir, "terminator.up")
	g.write("terminator", program, 0o700)
	g.write("terminator.up", `{"peer":"site-1","endpoint":"203.0.113.5:4500","local":"192.0.2.10","subnets":["100.64.1.0/24"]}`+"\n", 0o600)
	address := g.director(listen)
	g.file = g.write("realserver.yaml", fmt.Sprintf(`
host: node-a
directors: [%[1]s]
tls: {cert: %[2]s/agent-node-a.crt, key: %[2]s/agent-node-a.key, ca: %[2]s/ca.crt}
state_dir: %[2]s/state
socket: %[2]s/agent.sock
look: 1s
real_servers:
  - name: rs1
    vips: [192.0.2.10]
    interface: eth0
    namespace: /proc/self/fd/%[3]d
    terminator: {kind: exec, tunnels: [%[2]s/terminator, tunnels], adopt: [%[2]s/terminator, adopt], release: [%[2]s/terminator, release]}
`, address, g.dir, int(g.host.NS)), 0o600)
	return g
}

func (g *rig) write(name, text string, mode os.FileMode) string {
	g.t.Helper()
	path := filepath.Join(g.dir, name)
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		g.t.Fatal(err)
	}
	return path
}

// director serves agents as a director does.
func (g *rig) director(listen func(*rig) (net.Listener, error)) (address string) {
	g.t.Helper()
	authority, err := ca.New("test", time.Now())
	g.check(err)
	files := map[ca.Role]ca.Files{}
	for role, name := range map[ca.Role]string{ca.RoleDirector: "d1", ca.RoleAgent: "node-a"} {
		issued, err := authority.Issue(role, name, time.Now(), time.Hour)
		g.check(err)
		files[role], err = issued.Save(g.dir)
		g.check(err)
	}
	own, err := ca.Open(files[ca.RoleDirector], ca.RoleDirector, "d1", slog.New(slog.DiscardHandler))
	g.check(err)
	o := observe.Options{Name: "d1", Log: slog.New(slog.NewTextHandler(&g.logs, nil)), Who: func(ctx context.Context, c net.Conn) (string, error) {
		if err := c.(*tls.Conn).HandshakeContext(ctx); err != nil {
			return "", err
		}
		who, err := ca.Peer(c.(*tls.Conn).ConnectionState())
		return who.Name, err
	}, May: func(host string, s agent.Server) error {
		if host != "node-a" || strings.HasPrefix(s.Name, "other") {
			return fmt.Errorf("%s is not of host %s", s.Name, host)
		}
		return nil
	}, Differs: func(agent.Server) []string { return nil }}
	ctx, cancel := context.WithCancel(context.Background())
	opened, done := make(chan net.Listener), make(chan error, 1)
	go func() { // not on the test's thread, which is in a namespace
		l, err := listen(g)
		opened <- l
		if err == nil {
			err = g.book.Serve(ctx, tls.NewListener(l, own.ServerConfig(ca.RoleAgent, agent.Protocol)), o)
		}
		done <- err
	}()
	g.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			g.t.Error(err)
		}
	})
	return (<-opened).Addr().String()
}

func (g *rig) check(err error) {
	g.t.Helper()
	if err != nil {
		g.t.Fatal(err)
	}
}

// run runs a command about the host.
func (g *rig) run(args ...string) consoletest.Ran {
	return runIn(g.t.Context(), g.t, append(args, "--config", g.file)...)
}

// start begins the daemon; stop ends it, as SIGTERM does.
func (g *rig) start() (stop func()) {
	g.t.Helper()
	cfg, err := readBy(Parse, g.file)
	g.check(err)
	d, err := newDaemon(cfg, slog.New(slog.DiscardHandler))
	g.check(err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			g.t.Error(err)
		}
	})
	g.t.Cleanup(stop)
	return stop
}

// eventually waits for something to be so.
func (g *rig) eventually(what string, is func() bool) {
	g.t.Helper()
	for limit := time.Now().Add(20 * time.Second); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(limit) {
			g.t.Fatalf("not so after 20 s: %s", what)
		}
	}
}

// up are the peers that the director knows to be established.
func (g *rig) up() string {
	var out []string
	g.book.Each("rs1", func(s observe.Sighting) bool { out = append(out, s.Peer); return true })
	return strings.Join(out, " ")
}

// TestRun: the program as a whole: it makes the host right, reports to a director over TLS, answers probes, carries out orders, and
// leaves everything as it is when it ends.
func TestRun(t *testing.T) {
	g := newRig(t)
	g.run("check").Exits(console.ExitOK, "an agent can run here")
	g.run("plan", "--check").Exits(console.ExitNotWell, "192.0.2.10", "to make")
	g.run("apply").Exits(console.ExitOK, "made")
	g.run("plan", "--check").Exits(console.ExitOK, "the host is as it has to be")
	before := g.state()
	g.peer.Route("192.0.2.10/32", "198.51.100.11")
	stop := g.start()
	until(t, console.ExitOK, "all is well", "status", "--check", "--socket", g.dir+"/agent.sock").Exits(console.ExitOK, "rs1", "working", "d1")
	g.eventually("the director knows the tunnel", func() bool { return g.up() == "site-1" })
	if a, ok := g.book.Agent("rs1"); !ok || a.Status.Health != agent.HealthWorking || !a.Connected {
		t.Errorf("the director knows of the agent: %+v", a)
	}
	g.eventually("a probe is answered", func() bool {
		a, err := g.probe()
		return err == nil && a.Health == agent.HealthWorking && a.RealServer == "rs1" && a.Tunnels == 1 && !a.WrongWay
	})
	g.book.Order("rs1", agent.OrderAdopt, []agent.Inherited{{ID: "t2", Peer: "site-2", Local: addr("192.0.2.10"), Endpoint: netip.MustParseAddrPort("203.0.113.6:0")}})
	g.eventually("the tunnel is adopted", func() bool {
		e, _ := g.book.Errand("rs1", agent.OrderAdopt, "t2")
		return e.Outcome == agent.OutcomeDone && strings.Contains(g.up(), "site-2")
	})
	g.book.Order("rs1", agent.OrderRelease, []agent.Inherited{{ID: "t1", Peer: "site-1"}})
	g.eventually("the tunnel is released", func() bool {
		e, _ := g.book.Errand("rs1", agent.OrderRelease, "t1")
		return e.Outcome == agent.OutcomeDone && g.up() == "site-2"
	})
	runIn(t.Context(), t, "tunnels", "--socket", g.dir+"/agent.sock").Exits(console.ExitOK, "site-2", "203.0.113.6", "1 tunnel")
	g.write("terminator", "#!/bin/sh\necho the daemon is not there >&2\nexit 69\n", 0o700)
	g.eventually("the director knows that the terminator is dead", func() bool {
		a, _ := g.book.Agent("rs1")
		return a.Status.Health == agent.HealthDead && g.up() == ""
	})
	stop()
	g.eventually("the director knows that the agent was stopped", func() bool { return g.logs.has("the agent closed its stream, as one does that stops") })
	if d := cmp.Diff(before, g.state()); d != "" {
		t.Errorf("running changed the host (-before +after):\n%s", d)
	}
	g.run("doctor", "--json").Exits(console.ExitNotWell, `"id":"terminator-silent"`, "the daemon is not there")
	g.run("revert").Exits(console.ExitOK, "made")
	g.run("plan", "--check").Exits(console.ExitNotWell)
}

// TestRefusedForAll: who may speak for none of its real servers is told why, of each, in order.
func TestRefusedForAll(t *testing.T) {
	g := newRig(t)
	text, err := os.ReadFile(g.file)
	g.check(err)
	_, one, _ := strings.Cut(string(text), "  - name: rs1\n")
	g.write("realserver.yaml", strings.Replace(string(text), "rs1", "other-b", 1)+"  - name: other-a\n"+one, 0o600)
	g.start()
	until(t, console.ExitNotWell, "other-a: other-a is not of host node-a; other-b: other-b is not of host node-a",
		"status", "--check", "--json", "--socket", g.dir+"/agent.sock")
}

// TestPrepareHost: with prepare_host the daemon makes the host right, and revert refuses to fight with it.
func TestPrepareHost(t *testing.T) {
	g := newRig(t)
	text, err := os.ReadFile(g.file)
	g.check(err)
	g.write("realserver.yaml", string(text)+"prepare_host: true\n", 0o600)
	stop := g.start()
	g.eventually("the host is right", func() bool { return g.run("plan", "--check").Code == console.ExitOK })
	g.run("revert").Exits(console.ExitFailed).Tells("stop it first")
	stop()
	g.run("plan", "--check").Exits(console.ExitOK)
	g.run("revert").Exits(console.ExitOK)
}

func TestCheckTellsWhatIsMissing(t *testing.T) {
	g := newRig(t)
	text, err := os.ReadFile(g.file)
	g.check(err)
	bad := strings.NewReplacer("interface: eth0", "interface: eth7", "agent-node-a.key", "none.key").Replace(string(text))
	g.write("realserver.yaml", bad, 0o600)
	g.run("check").Exits(console.ExitFailed).Tells("this machine cannot run the agent of host node-a", "none.key", `real_servers[0].interface: "eth7" is not an interface there`)
	g.write("realserver.yaml", strings.Replace(string(text), "namespace: /proc/self/fd/", "namespace: /proc/self/fd/9", 1), 0o600)
	g.run("check").Exits(console.ExitFailed).Tells("real_servers[0].namespace: network namespace")
	g.write("realserver.yaml", strings.Replace(string(text), "host: node-a", "host: node-b", 1), 0o600)
	g.run("run").Exits(console.ExitFailed).Tells("node-b")
	still := filepath.Join(g.dir, "still")
	g.check(os.Mkdir(still, 0o700))
	g.check(unix.Mount("tmpfs", still, "tmpfs", unix.MS_RDONLY, ""))
	t.Cleanup(func() { g.check(unix.Unmount(still, 0)) })
	for from, to := range map[string]string{"state_dir: " + g.dir: "state_dir: " + still + "/new", "socket: " + g.dir: "socket: " + still} {
		key, _, _ := strings.Cut(from, ":")
		g.write("realserver.yaml", strings.Replace(string(text), from, to, 1), 0o600)
		g.run("check").Exits(console.ExitFailed).Tells(key+": files cannot be made in "+still, "read-only file system")
	}
}

// TestUnpreparedHost: who watches the agent hears that the host is not prepared, and that it is.
func TestUnpreparedHost(t *testing.T) {
	g := newRig(t)
	stop := g.start()
	until(t, console.ExitNotWell, "TROUBLE  the host is not as it has to be: ", "status", "--check", "--socket", g.dir+"/agent.sock").Tells("`realserver apply` makes them")
	stop()
	g.run("apply").Exits(console.ExitOK)
	g.start()
	until(t, console.ExitOK, "all is well", "status", "--check", "--socket", g.dir+"/agent.sock")
}

// state is what the host's namespace has of addresses and routes.
func (g *rig) state() (out []string) {
	g.t.Helper()
	g.host.Do(func() {
		list, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
		g.check(err)
		for _, a := range list {
			out = append(out, a.String())
		}
		routes, err := netlink.RouteList(nil, netlink.FAMILY_ALL)
		g.check(err)
		for _, r := range routes {
			out = append(out, r.String())
		}
	})
	return out
}

// probe asks the agent as a director does under dr: the packet's next hop is the real server.
func (g *rig) probe() (a agent.Answer, err error) {
	g.peer.Do(func() {
		var c net.Conn
		if c, err = net.Dial("udp", fmt.Sprintf("192.0.2.10:%d", agent.DefaultProbe)); err != nil {
			return
		}
		defer c.Close()
		if err = ipv4.NewConn(c).SetTTL(agent.ProbeTTL); err != nil {
			return
		}
		if err = c.SetDeadline(time.Now().Add(time.Second)); err != nil {
			return
		}
		if _, err = c.Write(agent.AppendProbe(nil, agent.Nonce{1}, "rs1")); err != nil {
			return
		}
		b := make([]byte, 2*agent.ProbeSize)
		var n int
		if n, err = c.Read(b); err == nil {
			a, err = agent.ParseAnswer(b[:n])
		}
	})
	return a, err
}
