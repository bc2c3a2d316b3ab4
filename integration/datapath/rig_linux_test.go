package datapath

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tunneldirector/director/agent"
	"tunneldirector/director/probe"
	"tunneldirector/integration/spaces"
	"tunneldirector/realserver/answer"
)

// asResponder is the environment of a process that is a responder, and no test: its answer.Options.
const asResponder = "DATAPATH_RESPONDER"

func TestMain(m *testing.M) {
	if o := os.Getenv(asResponder); o != "" {
		if err := respond(o); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// respond answers what it is told, line by line, until its standard input ends.
func respond(options string) error {
	var o answer.Options
	if err := json.Unmarshal([]byte(options), &o); err != nil {
		return err
	}
	o.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	r, err := answer.Open(o)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	last := map[string]answer.State{}
	var mu sync.Mutex
	go func() { // as an agent does while nothing changes
		for range time.Tick(answer.Stale / 3) {
			mu.Lock()
			r.Set(last)
			mu.Unlock()
		}
	}()
	for in := bufio.NewScanner(os.Stdin); in.Scan(); fmt.Println("told") {
		var s map[string]answer.State
		if err := json.Unmarshal(in.Bytes(), &s); err != nil {
			return err
		}
		if s == nil {
			b, err := json.Marshal(r.Counts())
			fmt.Println(string(b))
			if err != nil {
				return err
			}
			continue
		}
		mu.Lock()
		last = s
		r.Set(s)
		mu.Unlock()
	}
	cancel()
	return <-done
}

// A responder is the process that answers for rs1.
type responder struct {
	t   testing.TB
	cmd *exec.Cmd
	in  io.Writer
	out *bufio.Reader
}

// agentOn starts a responder on a host.
func agentOn(t testing.TB, s spaces.Space, o answer.Options) *responder {
	t.Helper()
	b, err := json.Marshal(o)
	must(t, err)
	r := &responder{t: t, cmd: exec.Command("/proc/self/exe")}
	r.cmd.Env = append(os.Environ(), asResponder+"="+string(b))
	r.cmd.Stderr = t.Output()
	r.in, err = r.cmd.StdinPipe()
	must(t, err)
	out, err := r.cmd.StdoutPipe()
	must(t, err)
	r.out = bufio.NewReader(out)
	s.Do(func() { must(t, r.cmd.Start()) })
	t.Cleanup(r.kill)
	r.says(agent.HealthWorking)
	return r
}

// says changes what is answered, and is back when it is.
func (r *responder) says(h agent.Health) {
	r.t.Helper()
	b, err := json.Marshal(map[string]answer.State{"rs1": {Health: h, Tunnels: 9}})
	must(r.t, err)
	r.tell(string(b))
}

func (r *responder) tell(line string) string {
	r.t.Helper()
	_, err := fmt.Fprintln(r.in, line)
	must(r.t, err)
	said := ""
	for {
		s, err := r.out.ReadString('\n')
		must(r.t, err)
		if s == "told\n" {
			return said
		}
		said += s
	}
}

func (r *responder) counts() (c answer.Counts) {
	r.t.Helper()
	must(r.t, json.Unmarshal([]byte(r.tell("null")), &c))
	return c
}

// kill is kill -9. It may come twice.
func (r *responder) kill() {
	if r.cmd.ProcessState == nil {
		_ = r.cmd.Process.Kill()
		_ = r.cmd.Wait()
	}
}

func (r *responder) signal(s os.Signal) {
	r.t.Helper()
	must(r.t, r.cmd.Process.Signal(s))
}

// cpu is what the process has used.
func (r *responder) cpu() time.Duration {
	r.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", r.cmd.Process.Pid))
	must(r.t, err)
	var ticks [2]int64
	_, err = fmt.Sscan(strings.Join(strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))[11:13], " "), &ticks[0], &ticks[1])
	must(r.t, err)
	return time.Duration(ticks[0]+ticks[1]) * 10 * time.Millisecond // USER_HZ is 100
}

var (
	vips    = []netip.Addr{netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("2001:db8:1::1")}
	rsAddrs = []netip.Addr{netip.MustParseAddr("192.0.2.11"), netip.MustParseAddr("2001:db8::11")}
)

// wired is a director and a real server that holds the VIPs, on one segment.
func wired(t testing.TB) (dir, rs spaces.Space) {
	s := spaces.New(t, 2)
	dir, rs = s[0], s[1]
	spaces.Wire(dir, "rs0", rs, "eth0")
	dir.Give("rs0", "192.0.2.1/24", "2001:db8::1/64")
	rs.Give("eth0", "192.0.2.11/24", "2001:db8::11/64")
	for _, s := range []spaces.Space{dir, rs} {
		s.Give("lo", "198.51.100.1/32", "2001:db8:1::1/128")
	}
	return dir, rs
}

// Devices at which a real server takes packets out of IPIP.
const decap4, decap6 = "decap4", "decap6"

// decapsulate prepares a real server for forwarding method tunnel. It skips where the kernel cannot.
func decapsulate(t testing.TB, rs spaces.Space) {
	t.Helper()
	for _, l := range []netlink.Link{
		&netlink.Iptun{LinkAttrs: netlink.LinkAttrs{Name: decap4}, Local: rsAddrs[0].AsSlice()},
		&netlink.Ip6tnl{LinkAttrs: netlink.LinkAttrs{Name: decap6}, Local: rsAddrs[1].AsSlice()},
	} {
		var err error
		rs.Do(func() { err = netlink.LinkAdd(l) })
		if errors.Is(err, unix.EOPNOTSUPP) && os.Getenv("TUNNELDIRECTOR_VM") != "1" {
			t.Skipf("the kernel cannot make a device of kind %s (modules ipip, ip6_tunnel): %v; run it by make test-vm", l.Type(), err)
		}
		must(t, err)
		rs.Up(l.Attrs().Name)
	}
	rs.Sysctl("net/ipv4/conf/all/rp_filter", "0")
	rs.Sysctl("net/ipv4/conf/"+decap4+"/rp_filter", "0")
}

// A director probes rs1.
type director struct {
	t      testing.TB
	p      *probe.Prober
	target probe.Target
	hears  atomic.Bool  // the agent's stream brings something, once a second
	last   atomic.Int64 // when it brought something last, if it does no more
}

const interval = 100 * time.Millisecond

// late is by how much a busy machine may be.
const late = 10 * time.Second

// direct probes from the namespace of the calling thread until the test ends.
func direct(t testing.TB, target probe.Target) *director {
	t.Helper()
	d := &director{t: t, target: target}
	d.hears.Store(true)
	d.target.Index, d.target.Name, d.target.Addrs, d.target.VIPs = 7, "rs1", rsAddrs, vips
	d.target.Agent, d.target.AgentUp = agent.DefaultProbe, true
	var err error
	d.p, err = probe.Open(probe.Config{Interfaces: []string{"rs0"}, Interval: interval, Heard: d.heard}, slog.New(slog.DiscardHandler))
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	d.p.Set([]probe.Target{d.target})
	go func() { done <- d.p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		must(t, <-done)
	})
	return d
}

func (d *director) heard(string) time.Time {
	if d.hears.Load() {
		return time.Now().Truncate(time.Second)
	}
	return time.Unix(0, d.last.Load())
}

// deaf is when the stream brings nothing any more, though it is not known yet to be down.
func (d *director) deaf() {
	d.last.Store(time.Now().UnixNano())
	d.hears.Store(false)
}

// up tells the prober that the agent's stream is up, or down.
func (d *director) up(is bool) {
	d.hears.Store(is)
	d.target.AgentUp = is
	d.p.Set([]probe.Target{d.target})
}

// await waits for the next event.
func (d *director) await(alive bool, cause string) {
	d.t.Helper()
	const within = 8*time.Second + late
	from := time.Now()
	select {
	case e := <-d.p.Events():
		if e.Alive != alive || !strings.Contains(e.Cause, cause) {
			d.t.Fatalf("event %+v; want alive %v because of %q", e, alive, cause)
		}
		d.t.Logf("alive %v after %v: %s", alive, time.Since(from).Round(time.Millisecond), e.Cause)
	case <-time.After(within):
		d.t.Fatalf("no event within %v; want alive %v because of %q; %+v", within, alive, cause, d.p.Snapshot())
	}
}

// quiet wants no event for a while, and then this to be shown.
func (d *director) quiet(during time.Duration, says agent.Health, trouble string) {
	d.t.Helper()
	for end := time.Now().Add(during + late); ; during = interval {
		select {
		case e := <-d.p.Events():
			d.t.Fatalf("event %+v", e)
		case <-time.After(during):
		}
		s := d.p.Snapshot()[0]
		if s.Agent.Says == says && strings.Contains(s.Agent.Trouble, trouble) && (s.Agent.Trouble == "") == (trouble == "") {
			return
		}
		if time.Now().After(end) {
			d.t.Fatalf("state %+v; want the agent's word %v, trouble %q", s, says, trouble)
		}
	}
}

// settled waits until the agent's stream is no news any more.
func (d *director) settled() {
	d.t.Helper()
	d.await(true, "answered: working")
	d.quiet(6*time.Second, agent.HealthWorking, "")
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
