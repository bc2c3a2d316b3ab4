package agents

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tunneldirector/integration/daemon"
	"tunneldirector/integration/lab"
)

// TestTerminatorsThatFail: a socket that is not there, that never answers, that talks nonsense, in the file of an agent that never saw
// its software work. The director is told that and why nothing is known, and the real server, which works, does not die of it; the
// other one's tunnels do not notice.
func TestTerminatorsThatFail(t *testing.T) {
	t.Parallel()
	r := newRig(t, wireGuard{}, lab.Options{Sites: 4, RealServers: 2})
	bad, good := r.RealServers[0], r.RealServers[1]
	f := r.flow(r.at(good)...)
	r.listen(bad, "hung.sock", func(net.Conn) { <-t.Context().Done() })
	r.listen(bad, "nonsense.sock", func(c net.Conn) {
		_, _ = c.Write([]byte("\x00\x00\x00\x08nonsense\n\n\xff\xff\xff\xff}{"))
		<-t.Context().Done()
	})
	for _, c := range []struct{ name, kind, says string }{
		{"nobody", "{kind: wireguard, device: wg0, socket: %s, sends_from_vip: true}", "no such file"},
		{"hung", "{kind: wireguard, device: wg0, socket: %s, sends_from_vip: true}", "deadline exceeded"},
		{"hung", "{kind: strongswan, socket: %s, kernel_ipsec: false}", "charon"},
		{"nonsense", "{kind: wireguard, device: wg0, socket: %s, sends_from_vip: true}", "is not key=value"},
		{"nonsense", "{kind: strongswan, socket: %s, kernel_ipsec: false}", "not VICI"},
		{"nonsense", "{kind: fastd, socket: %s}", "fastd"},
	} {
		r.agents[bad].Kill()
		began := time.Now()
		a, err := r.agent(r.Lab, bad, daemon.AgentOptions{Terminator: fmt.Sprintf(c.kind, "/run/"+c.name+".sock")})
		r.must("configure an agent", err)
		r.must("start an agent", a.Start())
		what := c.name + " " + strings.Fields(strings.Trim(c.kind, "{}"))[1]
		r.until(time.Minute, "hear of "+what, func() error {
			st := r.realServer(bad.Name).Agent
			if st == nil || !st.Connected || st.Since.Before(began.Add(-time.Second)) || st.Health != "unknown" || !strings.Contains(st.Cause, c.says) {
				return fmt.Errorf("its agent is told of as %+v", st)
			}
			return nil
		})
		if out, err := a.Command("status", "--check"); err == nil || !strings.Contains(err.Error(), " is unknown: it never answered this agent") {
			t.Errorf("%s: realserver status --check: %v\n%s", what, err, out)
		}
		if st := r.realServer(bad.Name); st.State != "alive" || st.Incarnation != 1 {
			t.Errorf("%s: the real server is %s #%d: %s", what, st.State, st.Incarnation, st.Cause)
		}
		t.Logf("%s after %.1f s: %s", what, time.Since(began).Seconds(), r.realServer(bad.Name).Agent.Cause)
	}
	r.agents[bad].Kill()
	a, err := r.agent(r.Lab, bad, daemon.AgentOptions{})
	r.must("configure an agent", err)
	r.must("start an agent", a.Start())
	r.alive(bad)
	f.measure("neighbour-fails", 2*time.Second)
}

// TestTwoAgentsOfOneName: the second one is refused, and says so; the first is undisturbed, and followed by the second when it ends.
func TestTwoAgentsOfOneName(t *testing.T) {
	t.Parallel()
	r := newRig(t, wireGuard{}, lab.Options{Sites: 2, RealServers: 2})
	rs := r.RealServers[0]
	first := r.agents[rs]
	before := r.realServer(rs.Name).Agent.Since
	f := r.flow(r.Sites...)
	r.dir = t.TempDir()
	second, err := r.agent(r.Lab, rs, daemon.AgentOptions{Settings: "socket: /run/second.sock\nprobe_port: 0\nlook: 1s"})
	r.must("configure another agent", err)
	r.must("start another agent", second.Start())
	r.until(30*time.Second, "refuse the second", func() error {
		out, err := second.Command("status", "--check", "--socket", "/run/second.sock")
		if err == nil || !strings.Contains(err.Error(), "not all is well") {
			return fmt.Errorf("its status: %v\n%s", err, out)
		}
		if !strings.Contains(err.Error(), "another") {
			return fmt.Errorf("it does not say why: %w", err)
		}
		return nil
	})
	r.rest(2 * time.Second)
	if st := r.realServer(rs.Name); !st.Agent.Connected || !st.Agent.Since.Equal(before) || st.State != "alive" || st.Incarnation != 1 {
		t.Errorf("the first one is told of as %+v, the real server is %s #%d", st.Agent, st.State, st.Incarnation)
	}
	first.Kill()
	r.until(40*time.Second, "hear the second", func() error {
		if st := r.realServer(rs.Name).Agent; !st.Connected || !st.Since.After(before) {
			return fmt.Errorf("it is told of as %+v", st)
		}
		return nil
	})
	f.measure("two-agents", 2*time.Second)
}

// TestVIPIsThereAlready: what somebody gave the host before stays when the agent's settings are taken back; what it changed does not.
func TestVIPIsThereAlready(t *testing.T) {
	t.Parallel()
	var before, after []string
	r := newLab(t, wireGuard{}, lab.Options{Sites: 1, RealServers: 1, Prepare: func(_ *lab.Lab, rs *lab.RealServer) (err error) {
		if err := rs.NS.Hold("lo", netip.PrefixFrom(lab.VIP4, 32)); err != nil {
			return err
		}
		before, err = arpSettings(rs)
		return err
	}})
	rs := r.RealServers[0]
	a, err := r.agent(r.Lab, rs, daemon.AgentOptions{})
	r.must("configure", err)
	out, err := a.Command("apply", "--config", a.Config())
	r.must("apply", err)
	if !strings.Contains(out, lab.VIP4.String()+"/32: it was there before") || !strings.Contains(out, "arp_ignore") {
		t.Errorf("apply says:\n%s", out)
	}
	if after, err = arpSettings(rs); err != nil || cmp.Equal(before, after) {
		t.Errorf("apply changed nothing: %v, %v", after, err)
	}
	_, err = a.Command("revert", "--config", a.Config())
	r.must("revert", err)
	if after, err = arpSettings(rs); err != nil || !cmp.Equal(before, after) {
		t.Errorf("after revert (-before +after): %v\n%s", err, cmp.Diff(before, after))
	}
	r.must("listen at the VIP", rs.NS.Run(func() error {
		c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(lab.VIP4, 7777)))
		if err == nil {
			c.Close()
		}
		return err
	}))
}

// arpSettings are what a real server's machine does about ARP.
func arpSettings(rs *lab.RealServer) (out []string, err error) {
	err = rs.NS.Run(func() error {
		files, err := filepath.Glob("/proc/sys/net/ipv4/conf/[ad][lr]*/arp_*") // all, dr
		for _, f := range files {
			text, readErr := os.ReadFile(f)
			if readErr != nil {
				return readErr
			}
			out = append(out, f+" "+strings.TrimSpace(string(text)))
		}
		return err
	})
	return out, err
}
