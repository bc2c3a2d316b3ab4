package terminators

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tunneldirector/director/agent"
	"tunneldirector/integration/lab"
	"tunneldirector/realserver/space"
	"tunneldirector/realserver/terminator"
	"tunneldirector/realserver/terminator/exec"
)

// example returns a driver of an example program, for a machine.
func (r *rig) example(ns *lab.Namespace, name string, more ...string) terminator.Terminator {
	r.Helper()
	program, err := filepath.Abs(filepath.Join("..", "..", "examples", "agent", name))
	r.must("find the program", err)
	if os.Getenv("TUNNELDIRECTOR_VM") != "" {
		program = "/examples/agent/" + name
	}
	ask := func(verb string) []string { return append([]string{shell(), program, verb}, more...) }
	return exec.New(exec.Options{
		Tunnels: ask("tunnels"), Adopt: ask("adopt"), Release: ask("release"), Carries: ask("carries"), Space: space.Space(ns.Name),
	})
}

// shell is what runs programs. The virtual machine's /bin/sh is busybox's, which takes an ip of its own for ip.
func shell() string {
	if os.Getenv("TUNNELDIRECTOR_VM") != "" {
		return "/bin/bash"
	}
	return "/bin/sh"
}

// TestGRE: a tunnel that both real servers have goes with the pin, and needs nothing else.
func TestGRE(t *testing.T) {
	r := newRig(t, lab.Options{Sites: 1})
	s := r.Sites[0]
	gre := func(ns *lab.Namespace, local, remote, behind string) {
		err := ns.Run(func() error {
			return netlink.LinkAdd(&netlink.Gretun{
				LinkAttrs: netlink.LinkAttrs{Name: "gre-site1"}, Local: netip.MustParseAddr(local).AsSlice(), Remote: netip.MustParseAddr(remote).AsSlice(),
			})
		})
		if errors.Is(err, unix.EOPNOTSUPP) && os.Getenv("TUNNELDIRECTOR_VM") == "" {
			t.Skip("this kernel has no module ip_gre: it is tested in the virtual machine")
		}
		r.must("add a GRE device", err)
		r.up(ns, "gre-site1")
		r.must("route", ns.Route(netip.MustParsePrefix(behind), netip.Addr{}, "gre-site1"))
	}
	gre(s.NS, s.Local.String(), s.VIP.String(), r.inner().String())
	for _, rs := range r.RealServers {
		gre(rs.NS, s.VIP.String(), s.Endpoint.String(), s.Subnets[0].String())
	}
	r.pin(s, 0)
	r.flows(s, time.Now(), 20*time.Second)
	w := []terminator.Terminator{r.example(r.RealServers[0].NS, "gre"), r.example(r.RealServers[1].NS, "gre", "gre")}
	at := r.tunnelOf(w[0], s, 20*time.Second)
	if at.Peer != "gre-site1" || at.Local != s.VIP || at.Endpoint.Port() != 0 || at.Rx == 0 || at.Tx == 0 || !slices.Equal(at.Subnets, s.Subnets) {
		t.Errorf("the tunnel is told as %+v", at)
	}
	if n, err := w[0].(terminator.DataPath).Carries(t.Context()); n != 1 || err != nil {
		t.Errorf("carries %d, %v", n, err)
	}
	begin := time.Now()
	r.pin(s, 1)
	r.must("adopt", w[1].Adopt(t.Context(), inherited(s, at)))
	measured(t, "GRE, adopt (by a shell program)", r.flows(s, begin, 20*time.Second))
	r.must("release", w[0].Release(t.Context(), inherited(s, at)))
	stranger := agent.Inherited{ID: "t", Endpoint: netip.MustParseAddrPort("203.0.113.99:0")}
	if err := w[1].Adopt(t.Context(), stranger); !errors.Is(err, terminator.ErrWait) {
		t.Errorf("adopt of a stranger: %v", err)
	}
}

// TestL2TP: the same for L2TPv3 in UDP.
func TestL2TP(t *testing.T) {
	r := newRig(t, lab.Options{Sites: 1})
	s := r.Sites[0]
	l2tp := func(ns *lab.Namespace, id, peer int, local, remote, inside, beyond, behind string) {
		script := fmt.Sprintf(`set -e
ip l2tp add tunnel tunnel_id %d peer_tunnel_id %d encap udp local %s remote %s udp_sport 1701 udp_dport 1701
ip l2tp add session name l2-site1 tunnel_id %d session_id %d peer_session_id %d
ip link set l2-site1 up mtu 1400
ip addr add %s dev l2-site1
ip route add %s via %s`, id, peer, local, remote, id, id, peer, inside, behind, beyond)
		p := r.Command(ns, shell(), "-c", script)
		var said strings.Builder
		p.Cmd.Stderr = &said
		if err := p.Run(); err != nil && os.Getenv("TUNNELDIRECTOR_VM") == "" {
			t.Skipf("this kernel has no L2TP: it is tested in the virtual machine (%s)", said.String())
		} else if err != nil {
			t.Fatalf("make an L2TP tunnel: %v: %s", err, said.String())
		}
	}
	l2tp(s.NS, 11, 21, s.Local.String(), s.VIP.String(), "172.21.0.2/30", "172.21.0.1", r.inner().String())
	for _, rs := range r.RealServers {
		l2tp(rs.NS, 21, 11, s.VIP.String(), s.Endpoint.String(), "172.21.0.1/30", "172.21.0.2", s.Subnets[0].String())
	}
	r.pin(s, 0)
	r.flows(s, time.Now(), 20*time.Second)
	w := []terminator.Terminator{r.example(r.RealServers[0].NS, "l2tp"), r.example(r.RealServers[1].NS, "l2tp")}
	at := r.tunnelOf(w[0], s, 20*time.Second)
	if at.Peer != "11" || at.Local != s.VIP || at.Endpoint != netip.AddrPortFrom(s.Endpoint, 1701) || !slices.Contains(at.Subnets, s.Subnets[0]) {
		t.Errorf("the tunnel is told as %+v", at)
	}
	if n, err := w[0].(terminator.DataPath).Carries(t.Context()); n != 1 || err != nil {
		t.Errorf("carries %d, %v", n, err)
	}
	begin := time.Now()
	r.pin(s, 1)
	r.must("adopt", w[1].Adopt(t.Context(), inherited(s, at)))
	measured(t, "L2TPv3, adopt (by a shell program)", r.flows(s, begin, 20*time.Second))
	stranger := inherited(s, at)
	stranger.Peer = "12"
	if err := w[1].Adopt(t.Context(), stranger); !errors.Is(err, terminator.ErrWait) {
		t.Errorf("adopt of a stranger: %v", err)
	}
}
