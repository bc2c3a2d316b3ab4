package doctor

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"tunneldirector/director/api"
	"tunneldirector/integration/daemon"
	"tunneldirector/integration/lab"
)

// TestPlantedFaults plants one fault after the other: with real packets, under two directors.
func TestPlantedFaults(t *testing.T) {
	r := newRig(t, "xdp")
	healthy(r)
	wrongMAC(r)
	loop(r)
	reversePath(r)
	deadDataPath(r)
}

// TestPlantedLoopOnIPVS plants the loop where the kernel's own IPVS forwards.
func TestPlantedLoopOnIPVS(t *testing.T) {
	if os.Getenv("TUNNELDIRECTOR_VM") == "" {
		t.Skip("it takes a kernel with IPVS: run by make test-vm")
	}
	if out, err := exec.Command("modprobe", "tun").CombinedOutput(); err != nil { // of the sites; without a device file the kernel loads none by itself
		t.Fatalf("modprobe tun: %v: %s", err, out)
	}
	loop(newRig(t, "ipvs"))
}

// soon is how long a fault may take to show. Each look of the doctor takes more than a second.
const soon = time.Minute

// healthy: nothing is broken, and a trace tells the whole way, at each director.
func healthy(r *rig) {
	r.until(soon, "before any fault", func() error {
		list, _, err := r.doctor()
		if i := slices.IndexFunc(list, func(f api.Finding) bool { return f.Severity == api.Breaks }); i >= 0 {
			err = fmt.Errorf("%+v", list[i])
		}
		return err
	})
	rs := r.RealServers[0]
	other := r.RealServers[1]
	mac := rs.DR.MAC.String()
	r.explains([]string{"d1: it leaves by rs to MAC address " + mac, "d2: it leaves by rs to MAC address " + mac, "agent of " + rs.Name + ": terminator wireguard is working",
		"the agent of " + rs.Name + " sees it established since"}, func(all api.Explanations) error {
		if !all.Agree {
			return fmt.Errorf("the directors do not agree: %+v", all)
		}
		return each(func(e api.Explanation) bool {
			return e.RealServer == rs.Name && e.IfItDies == other.Name && e.Agrees && len(e.Established) == 1 && len(e.NextHops) == 1 &&
				e.NextHops[0].WireMAC == mac && e.NextHops[0].MAC == mac
		})(all)
	}, packet(r.at(rs))...)
	live(r, r.at(rs), rs)
}

// wrongMAC: somebody wrote a neighbour entry by hand. Probes ask for themselves, and go on.
func wrongMAC(r *rig) {
	rs, on := r.RealServers[0], r.Directors[0].Namespace
	set := func(mac net.HardwareAddr, state int) func(netlink.Link) error {
		return func(l netlink.Link) error {
			return netlink.NeighSet(&netlink.Neigh{LinkIndex: l.Attrs().Index, IP: rs.DR.Addrs[0].AsSlice(), HardwareAddr: mac, State: state})
		}
	}
	site := r.at(rs)
	bad := net.HardwareAddr{2, 0, 0, 0, 0, 0xbd}
	r.inside(on, "write a wrong neighbour entry", set(bad, netlink.NUD_PERMANENT), r.Directors[0].RS.Name)
	f := r.finds("neighbours", rs.Name, "wrong MAC address")
	if !strings.Contains(f.Mend, "lladdr "+rs.DR.MAC.String()) {
		r.Errorf("%+v", f)
	}
	r.explains([]string{"d1: WRONG MAC: on the wire " + rs.DR.Addrs[0].String() + " answered with " + rs.DR.MAC.String()}, func(all api.Explanations) error {
		if all.Explanations[0].Explanation.Agrees || !all.Explanations[1].Explanation.Agrees {
			return fmt.Errorf("the first director is to disagree with the wire, and the second to agree: %+v", all)
		}
		return nil
	}, packet(site)...)
	r.inside(on, "mend it", set(rs.DR.MAC, netlink.NUD_REACHABLE), r.Directors[0].RS.Name)
}

// loop: a real server has a static route for a tunnel's subnet back to the director.
func loop(r *rig) {
	rs := r.RealServers[0]
	site := r.at(rs)
	holder := r.Directors[1] // of the gateway
	r.must("plant a route", rs.NS.Route(site.Subnets[0], holder.RS.Addrs[0], rs.DR.Name))
	target := r.Target.Inner.Addrs[0]
	ping, err := r.StartPing(r.ctx, r.Target.Namespace, target, site.Inside[0], 50*time.Millisecond, 0)
	r.must("ping", err)
	f := r.finds("drops", "loop", "packets were dropped in the last second (loop)")
	if !strings.Contains(f.Causes, "a real server sends packets back") {
		r.Errorf("%+v", f)
	}
	r.explains([]string{"d2: it comes from real server " + rs.Name, "sending it there again would be a loop"},
		each(func(e api.Explanation) bool { return e.Action == "drop" && e.Reason == "loop" }),
		"--from", target.String(), "--to", site.Inside[0].String(), "--proto", "icmp", "--came-from", rs.Name)
	recorded(r, r.d[1], target, site)
	r.explains([]string{"because the real server that they are for had sent them back (loop)"}, anything, "--from", target.String(), "--to", site.Inside[0].String(), "--proto", "icmp")
	_, err = ping.Stop()
	r.must("ping", err)
	r.inside(rs.NS, "take the route out", func(l netlink.Link) error {
		return netlink.RouteReplace(&netlink.Route{LinkIndex: l.Attrs().Index, Dst: ipNet(site.Subnets[0]), Scope: netlink.SCOPE_LINK})
	}, "wg0")
}

// recorded: the black box of the director that drops them has written such packets down, and each can be traced afterwards.
func recorded(r *rig, d *daemon.Daemon, from netip.Addr, to *lab.Site) {
	r.Helper()
	var id string
	r.until(soon, "a recording of the loop", func() error {
		var list api.RecordingList
		out, err := d.Command("blackbox", "list", "--json")
		if err == nil {
			err = json.Unmarshal([]byte(out), &list)
		}
		i := slices.IndexFunc(list.Recordings, func(x api.Recording) bool { return x.Trigger == "loop" && !x.Open })
		if i < 0 {
			return errors.Join(err, fmt.Errorf("there is none: %s", out))
		}
		id = list.Recordings[i].ID
		return err
	})
	out, err := d.Command("blackbox", "show", id)
	r.must("show it", err)
	r.Logf("%s", out)
	for _, says := range []string{"dropped: loop", from.String(), to.Inside[0].String()} {
		if !strings.Contains(out, says) {
			r.Errorf("it does not say %q", says)
		}
	}
	file := filepath.Join(r.dir, "loop.pcapng")
	_, err = d.Command("blackbox", "export", id, "--out", file)
	r.must("export it", err)
	list, err := d.Command("blackbox", "show", file, "--reason", "loop", "--json")
	r.must("read the file", err)
	if n := strings.Count(list, "\n"); n == 0 {
		r.Error("there is no such packet in the file")
	}
	out, err = d.Command("trace", "--pcap", file, "--packet", "1")
	r.must("trace its first packet", err)
	r.Logf("%s", out)
}

// live: a packet is traced as it comes in, and what the plane did is what the lookup says.
func live(r *rig, site *lab.Site, rs *lab.RealServer) {
	r.Helper()
	ping, err := r.StartPing(r.ctx, site.NS, site.Inside[0], r.Target.Inner.Addrs[0], 50*time.Millisecond, 0)
	r.must("ping", err)
	out, err := r.d[0].Command("trace", "--live", "--from", site.Endpoint.String(), "--to", site.VIP.String(), "--proto", "udp", "--count", "2", "--json")
	r.must("trace what comes", err)
	_, err = ping.Stop()
	r.must("ping", err)
	r.Logf("%s", out)
	for dec := json.NewDecoder(strings.NewReader(out)); dec.More(); {
		var x struct {
			Packet      api.SeenPacket
			Explanation api.Explanation
			Differs     string
		}
		r.must("read an answer", dec.Decode(&x))
		if x.Packet.Action != "forward" || x.Packet.RealServer != rs.Name || x.Explanation.RealServer != rs.Name || x.Differs != "" {
			r.Errorf("%+v, want it forwarded to %s", x, rs.Name)
		}
	}
}

// reversePath: a real server filters strictly, and replies to sites leave it by another interface than they come by. Probes are
// from a director on its own network, and pass.
func reversePath(r *rig) {
	rs := r.RealServers[1]
	site := r.at(rs)
	r.must("set rp_filter", rs.NS.Sysctl(map[string]string{"ipv4/conf/" + rs.DR.Name + "/rp_filter": "1"}))
	for _, p := range []string{"203.0.113.0/24", "198.18.0.0/15"} {
		r.must("route replies by another interface", rs.NS.Route(netip.MustParsePrefix(p), netip.Addr{}, rs.Inner.Name))
	}
	r.must("stop the agent", r.agents[rs].Stop()) // it looks once a minute, and at its start
	r.must("start the agent", r.agents[rs].Start())
	f := r.finds("agents", rs.Name, "rp_filter")
	if !strings.Contains(f.What, "(rp-filter)") || !strings.Contains(f.Mend, "rp_filter") {
		r.Errorf("%+v", f)
	}
	r.explains([]string{"d1: the agent finds on " + rs.Name + ":", "d2: the agent finds on " + rs.Name + ":", "rp_filter"}, anything, packet(site)...)
}

// deadDataPath: a real server has lost its VIP. Its agent's connection and its terminator are well.
func deadDataPath(r *rig) {
	rs := r.RealServers[0]
	site := r.at(rs)
	r.inside(rs.NS, "take the VIP away", func(l netlink.Link) error {
		return netlink.AddrDel(l, &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(lab.VIP4, 32))})
	}, "lo")
	r.finds("data path", rs.Name, "dead data path, live control path")
	r.explains([]string{"agent of " + rs.Name + ": terminator wireguard is working", "yet its data path is dead"},
		each(func(e api.Explanation) bool { return e.UsedBackup || e.RealServer == r.RealServers[1].Name }), packet(site)...)
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
