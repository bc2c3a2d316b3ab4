package vip

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"

	"tunneldirector/director/plane"
	"tunneldirector/director/vip/sysctl"
)

// Check reads the kernel's settings below proc, which is /proc/sys as seen in the node's network namespace, and changes none.
// Of held only the families and Silent matter. An error means that some settings could not be read; the findings about the
// others are there.
func Check(proc fs.FS, cfg Config, interfaces []plane.Interface, held Held) ([]sysctl.Finding, error) {
	c := &checker{Reader: sysctl.Reader{FS: proc}, held: held, onLo: cmp.Or(cfg.Device, loopback) == loopback}
	c.v4 = slices.ContainsFunc(slices.Concat(held.VIPs, held.Gateways), netip.Addr.Is4)
	c.v6 = slices.ContainsFunc(slices.Concat(held.VIPs, held.Gateways), netip.Addr.Is6)
	c.node()
	vip6 := slices.ContainsFunc(held.VIPs, netip.Addr.Is6)
	if vip6 && held.Silent {
		c.ipv6(loopback, virtual)
	}
	for _, i := range interfaces {
		if c.v4 {
			c.forwarding(i)
			c.routing(i)
		}
		if slices.ContainsFunc(held.VIPs, netip.Addr.Is4) {
			c.arp(i)
		}
		if slices.ContainsFunc(held.Gateways, netip.Addr.Is4) {
			c.gatewayARP(i)
		}
		if vip6 && !held.Silent && i.Roles&plane.RoleTunnel != 0 {
			c.ipv6(i.Name, virtual)
		}
		if slices.ContainsFunc(held.Gateways, netip.Addr.Is6) && i.Roles&plane.RoleSubnet != 0 {
			c.ipv6(i.Name, gateway)
		}
	}
	return c.found, errors.Join(c.Errs...)
}

type checker struct {
	sysctl.Reader
	held   Held
	v4, v6 bool
	onLo   bool // IPv4 VIPs are on lo
	found  []sysctl.Finding
}

func name(path string) string { return sysctl.Setting{Path: path}.Name() }

func conf4(ifname, setting string) string { return "net/ipv4/conf/" + ifname + "/" + setting }

// highest is how the kernel combines most settings: the maximum of all and the interface's.
func (c *checker) highest(ifname, setting string) int {
	return max(c.Int(conf4("all", setting)), c.Int(conf4(ifname, setting)))
}

func (c *checker) find(what, why string, settings ...sysctl.Setting) {
	c.found = append(c.found, sysctl.Finding{What: what, Why: why, Settings: settings})
}

const notRouted = "what the plane leaves to the stack (traffic of no tunnel, real servers' replies through the director) is not routed, " +
	"nor, under plane ipvs, is anything to subnets"

func (c *checker) node() {
	routed := func(family bool, path, beware string) {
		if family && c.Int(path) == 0 {
			c.find(name(path)+" = 0", notRouted+beware, sysctl.Setting{Path: path, Value: 1})
		}
	}
	routed(c.v4, "net/ipv4/ip_forward", "")
	routed(c.v6, "net/ipv6/conf/all/forwarding", " (a router hears no router advertisements: an interface that learns its default route by them needs accept_ra = 2 first)")
}

// forwarding: IPv4 obeys the interface's setting; ip_forward only sets it for all, at the moment when it is written.
func (c *checker) forwarding(i plane.Interface) {
	path := conf4(i.Name, "forwarding")
	if i.Roles&(plane.RoleSubnet|plane.RoleRealServers) != 0 && c.Int("net/ipv4/ip_forward") == 1 && c.Int(path) == 0 {
		c.find(name(path)+" = 0", notRouted, sysctl.Setting{Path: path, Value: 1})
	}
}

func (c *checker) routing(i plane.Interface) {
	if c.highest(i.Name, "rp_filter") == 1 {
		c.find("strict reverse-path filter on "+i.Name+" (rp_filter, the maximum of all and the interface's, is 1)",
			"packets whose answer would leave by another interface are dropped, and with direct routing that is the rule",
			sysctl.Setting{Path: conf4(i.Name, "rp_filter"), Value: 2}) // the maximum, so that other interfaces stay as they are
	}
	// Strict filtering drops such packets all the same, loose does not.
	if path := conf4(i.Name, "accept_local"); i.Roles&plane.RoleRealServers != 0 && c.Int(path) == 0 {
		c.find(name(path)+" = 0", "real servers' replies carry the VIP as source: if they leave through this director they are dropped as martians; "+
			"nothing to do where real servers have a router of their own", sysctl.Setting{Path: path, Value: 1})
	}
	// The kernel sends redirects if either all or the interface says so.
	if i.Roles&(plane.RoleSubnet|plane.RoleTunnel) != 0 && c.highest(i.Name, "send_redirects") == 1 {
		c.find("send_redirects on "+i.Name+" (all or the interface's is 1)", "hosts that send through the director may be told to send past it",
			sysctl.Setting{Path: conf4("all", "send_redirects")}, sysctl.Setting{Path: conf4(i.Name, "send_redirects")})
	}
}

func (c *checker) ipv6(ifname string, k kind) {
	if path := "net/ipv6/conf/" + ifname + "/disable_ipv6"; c.Int(path) == 1 {
		c.find(name(path)+" = 1", fmt.Sprintf("an IPv6 %v cannot be held on %s", k, ifname), sysctl.Setting{Path: path})
	}
}

func (c *checker) arp(i plane.Interface) {
	ignore := c.highest(i.Name, "arp_ignore")
	own := sysctl.Setting{Path: conf4(i.Name, "arp_ignore")}
	tunnel := i.Roles&plane.RoleTunnel != 0
	switch {
	case tunnel && c.held.Silent:
		c.silent(i)
	case tunnel && c.onLo && ignore > 0:
		settings := []sysctl.Setting{{Path: conf4("all", "arp_ignore")}, own}
		c.found = append(c.found, sysctl.Finding{What: fmt.Sprintf("arp_ignore = %d on %s (maximum of all and the interface's)", ignore, i.Name),
			Why: "nobody answers ARP for a VIP that is held on lo", Remedy: "hold VIPs on " + i.Name + " instead of lo, or " + sysctl.Command(settings...), Settings: settings})
	case !tunnel && i.Roles&plane.RoleRealServers != 0 && ignore == 0:
		own.Value = 1
		c.find("arp_ignore = 0 on "+i.Name, "the director answers ARP for VIPs among the real servers, which hold them too", own)
	}
}

// silent: a VIP that all directors hold is found by routes alone.
func (c *checker) silent(i plane.Interface) {
	if path := conf4(i.Name, "arp_ignore"); c.highest(i.Name, "arp_ignore") == 0 {
		c.find("arp_ignore = 0 on "+i.Name, "every director answers ARP for the VIPs that all hold (addresses: all), and who asks gets any one of them past the routers",
			sysctl.Setting{Path: path, Value: 1})
	}
	if path := conf4(i.Name, "arp_announce"); c.highest(i.Name, "arp_announce") < 2 {
		c.find(fmt.Sprintf("arp_announce = %d on %s (maximum of all and the interface's)", c.highest(i.Name, "arp_announce"), i.Name),
			"what the director sends from a VIP (ICMP) makes it ask for its neighbours with the VIP as sender, and they learn that the VIP is here",
			sysctl.Setting{Path: path, Value: 2})
	}
}

// gatewayARP: 1 to 3 let a gateway that is on the interface be found, 8 nothing.
func (c *checker) gatewayARP(i plane.Interface) {
	if path := conf4(i.Name, "arp_ignore"); i.Roles&plane.RoleSubnet != 0 && c.highest(i.Name, "arp_ignore") == 8 {
		c.find("arp_ignore = 8 on "+i.Name+" (maximum of all and the interface's)", "nobody answers ARP for a gateway",
			sysctl.Setting{Path: conf4("all", "arp_ignore")}, sysctl.Setting{Path: path, Value: 1})
	}
}
