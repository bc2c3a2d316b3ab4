package host

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tunneldirector/director/vip/dump"
)

func (e *exam) forwards() error {
	for _, v6 := range []bool{false, true} {
		if path := (forwarding{v6}).trigger(); e.in.has(v6) && e.number(path) == 0 {
			e.find("forwarding-off", Breaks, "IPv"+number(v6)+" is not forwarded", "nothing goes between the tunnels and the target subnets", e.settings(path+"=1"))
		}
	}
	if path := conf4(e.in.Interface, "forwarding"); e.in.has(false) && e.number("net/ipv4/ip_forward") == 1 && e.number(path) == 0 {
		e.find("forwarding-off", Breaks, "IPv4 that comes in by "+e.in.Interface+" is not forwarded", "nothing for subnets goes into the tunnels", e.settings(path+"=1"))
	}
	return nil
}

// sizes: under Tunnel packets of the sites come with a header more.
func (e *exam) sizes() error {
	need, mtu := e.in.MTU, e.iface.Attrs().MTU
	if need == 0 {
		need = 1500
	}
	if e.in.Method == Tunnel {
		if need += 20; e.in.has(true) {
			need += 20
		}
	}
	if mtu < need {
		e.find("mtu-small", Risks, fmt.Sprintf("%s has an MTU of %d, and packets of up to %d bytes come by it", e.in.Interface, mtu, need),
			"larger ones are dropped on the way, or their senders have to find out: where ICMP is filtered, connections stall",
			e.command("ip link set %s mtu %d", e.in.Interface, need)+", on the whole segment; or give the sites' interfaces an MTU that is "+fmt.Sprint(need-mtu)+" less")
	}
	return nil
}

// arriving asks the kernel what becomes of a site's packet for the VIP.
func (e *exam) arriving(v6 bool) error {
	by := e.in.Interface
	if e.in.Method == Tunnel {
		device, err := e.takesOut(v6)
		if err != nil || device == "" {
			return err
		}
		by = device
	}
	clear := true
	for _, vip := range e.in.VIPs {
		if vip.Is6() != v6 || !slices.ContainsFunc(e.plan.all, func(h holding) bool { return h.prefix.Addr() == vip }) {
			clear = clear && vip.Is6() != v6
			continue
		}
		ways, err := e.nl.RouteGetWithOptions(vip.AsSlice(), &netlink.RouteGetOptions{Iif: by, SrcAddr: e.in.site(v6).AsSlice()})
		strict := e.highest(by, "rp_filter")
		switch {
		case err != nil && !v6 && strict > 0:
			clear = false
			e.find(map[string]string{DR: "rp-filter", Tunnel: "decap-rp-filter"}[e.in.Method], Breaks,
				fmt.Sprintf("the kernel refuses a packet from %v to the VIP %v by %s; rp_filter there is %d (the maximum of all and the interface's)", e.in.site(v6), vip, by, strict),
				"tunnels' packets are dropped without a word (count: nstat TcpExtIPReversePathFilter)", e.reversePathRemedy(by))
		case err != nil:
			clear = false
			e.find("vip-refused", Breaks, fmt.Sprintf("the kernel refuses a packet from %v to the VIP %v by %s: %v", e.in.site(v6), vip, by, err),
				"tunnels' packets are dropped", e.command("ip route get %v from %v iif %s", vip, e.in.site(v6), by))
		case len(ways) == 0 || ways[0].Type != unix.RTN_LOCAL:
			clear = false
			e.find("vip-not-local", Breaks, fmt.Sprintf("a packet from %v to the VIP %v by %s is not taken, but sent on", e.in.site(v6), vip, by),
				"the terminator gets none; a rule or route goes before the local one", e.command("ip rule show"))
		}
	}
	if e.in.Method == Tunnel && clear {
		return e.inject(v6, by)
	}
	return nil
}

func (e *exam) reversePathRemedy(by string) string {
	if all := e.number(conf4("all", "rp_filter")); e.in.Method == Tunnel && all > 0 {
		return e.command("ip address add %v dev %s scope host", single(of(e.in.VIPs, false)), by) + "; " + e.settings(conf4(by, "rp_filter")+"=2")
	}
	if e.in.Method == Tunnel {
		return e.settings(conf4(by, "rp_filter") + "=0")
	}
	return e.settings(conf4(by, "rp_filter") + "=2")
}

// takesOut is the device at which a family's packets come out of IPIP; "" if there is none.
func (e *exam) takesOut(v6 bool) (string, error) {
	own, err := e.own(v6)
	if err != nil {
		e.find("own-address-unclear", Breaks, err.Error(), "it is not known where IPIP comes to", "set own in the real server's configuration")
		return "", nil
	}
	links, err := dump.Whole(func() ([]netlink.Link, error) { return e.nl.LinkList() })
	if err != nil {
		return "", fmt.Errorf("list interfaces: %w", err)
	}
	down := ""
	slices.SortStableFunc(links, func(a, b netlink.Link) int { // ours goes before the module's
		return map[bool]int{true: -1}[a.Attrs().Name == decapName(e.in, v6)] - map[bool]int{true: -1}[b.Attrs().Name == decapName(e.in, v6)]
	})
	for _, l := range links {
		if !takes(l, own) {
			continue
		}
		if l.Attrs().RawFlags&unix.IFF_UP != 0 {
			return l.Attrs().Name, nil
		}
		if name := l.Attrs().Name; down == "" && name != "tunl0" && name != "ip6tnl0" { // those are there wherever the modules are
			down = name
		}
	}
	kind, module := "ipip", "ipip"
	if v6 {
		kind, module = "ip6tnl", "ip6_tunnel"
	}
	const causes = "what directors send in IPIP is dropped"
	switch {
	case down != "":
		e.find("decap-down", Breaks, fmt.Sprintf("%s, which takes packets out of IPIP, is down", down), causes, e.command("ip link set %s up", down))
	case !hasModule(module):
		e.find("module-missing", Breaks, "the kernel has no module "+module, causes, "install the kernel's extra modules (module "+module+")")
	default:
		e.find("decap-missing", Breaks, fmt.Sprintf("no device takes out what comes in IPIP to %v", own), causes,
			e.command("ip link add %s type %s local %v", decapName(e.in, v6), kind, own)+"; "+e.command("ip link set %s up", decapName(e.in, v6)))
	}
	return "", nil
}

// takes tells whether a device takes in from any sender what is sent to an address.
func takes(l netlink.Link, own netip.Addr) bool {
	here := func(local, remote []byte) bool {
		a, _ := netip.AddrFromSlice(local)
		return unspecified(remote) && (unspecified(local) || a.Unmap() == own)
	}
	switch l := l.(type) {
	case *netlink.Iptun:
		return own.Is4() && (l.FlowBased || here(l.Local, l.Remote))
	case *netlink.Ip6tnl:
		return own.Is6() && (l.FlowBased || here(l.Local, l.Remote))
	}
	return false
}

// hasModule tells whether a module is there or can be loaded; yes where that cannot be seen.
func hasModule(name string) bool {
	if _, err := os.Stat("/sys/module/" + name); err == nil {
		return true
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return true
	}
	dir := "/lib/modules/" + unix.ByteSliceToString(u.Release[:]) + "/"
	for _, list := range []string{"modules.dep", "modules.builtin"} {
		if b, err := os.ReadFile(dir + list); err == nil && strings.Contains(string(b), "/"+name+".ko") {
			return true
		}
	}
	return false
}

// passing: replies of real servers in other namespaces.
func (e *exam) passing() error {
	if !e.in.has(false) {
		return nil
	}
	vip, site := of(e.in.VIPs, false), e.in.site(false)
	for _, d := range e.lodgers() {
		if _, err := e.nl.RouteGetWithOptions(site.AsSlice(), &netlink.RouteGetOptions{Iif: d, SrcAddr: vip.AsSlice()}); err != nil {
			e.find("vip-source-refused", Breaks, fmt.Sprintf("the kernel refuses a packet from the VIP %v to %v that comes by %s: %v", vip, site, d, err),
				"sites get no answer from the real server in the namespace behind it", e.settings(conf4(d, "accept_local")+"=1", conf4(d, "rp_filter")+"=2"))
		}
	}
	return nil
}

// leaving: the way of a reply.
func (e *exam) leaving(v6 bool) error {
	site := e.in.site(v6)
	for _, vip := range e.in.VIPs {
		if vip.Is6() != v6 || !slices.ContainsFunc(e.plan.all, func(h holding) bool { return h.prefix.Addr() == vip }) {
			continue
		}
		ways, err := e.nl.RouteGetWithOptions(site.AsSlice(), &netlink.RouteGetOptions{SrcAddr: vip.AsSlice()})
		if err != nil || len(ways) == 0 || ways[0].Type != unix.RTN_UNICAST {
			e.find("no-route-back", Breaks, fmt.Sprintf("there is no route to %v from the VIP %v", site, vip), "sites get no answer",
				e.command("ip route get %v from %v", site, vip)+"; set a default route, or via in the real server's configuration")
			continue
		}
		gw, _ := netip.AddrFromSlice(ways[0].Gw)
		if want := of(e.in.Via, v6); want.IsValid() && gw.Unmap() != want {
			e.find("reply-elsewhere", Breaks, fmt.Sprintf("a reply from the VIP %v to %v leaves by %v, not by the gateway %v", vip, site, gw, want),
				"it may be dropped there, as of a source that is not known", "realserver apply; "+e.command("ip rule show"))
		}
	}
	return e.openSource(v6, site)
}

// openSource: WireGuard in the kernel leaves the source open if the reply leaves by another interface than the question came by,
// as it does under Tunnel (send4 in drivers/net/wireguard/socket.c).
func (e *exam) openSource(v6 bool, site netip.Addr) error {
	open := e.in.Method == Tunnel && slices.ContainsFunc(e.in.Protocols, func(s string) bool {
		p, err := parseProtocol(s)
		return err == nil && p.number == unix.IPPROTO_UDP && p.port != 500 && p.port != 4500
	})
	if e.in.Mark == 0 && !open {
		return nil
	}
	ways, err := e.nl.RouteGetWithOptions(site.AsSlice(), &netlink.RouteGetOptions{Mark: e.in.Mark})
	if errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EHOSTUNREACH) {
		return nil // found already
	}
	if err != nil {
		return fmt.Errorf("ask for the way to %v: %w", site, err)
	}
	src, _ := netip.AddrFromSlice(ways[0].Src)
	if slices.Contains(e.in.VIPs, src.Unmap()) {
		return nil
	}
	severity := Notes
	if e.in.Mark != 0 {
		severity = Breaks
	}
	e.find("reply-source", severity, fmt.Sprintf("a packet to %v whose sender leaves the source open (mark %d) has %v for it, and no VIP", site, e.in.Mark, src),
		"WireGuard in the kernel answers so under method tunnel: sites follow it there, past the director, or drop it",
		"set via and mark in the real server's configuration and `wg set DEVICE fwmark MARK`; where marked already, realserver apply")
	return nil
}
