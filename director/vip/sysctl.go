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
// An error means that some could not be read; the findings about the others are there.
func Check(proc fs.FS, cfg Config, interfaces []plane.Interface, vips []netip.Addr) ([]sysctl.Finding, error) {
	c := &checker{Reader: sysctl.Reader{FS: proc}, v4: slices.ContainsFunc(vips, netip.Addr.Is4), v6: slices.ContainsFunc(vips, netip.Addr.Is6),
		onLo: cmp.Or(cfg.Device, "lo") == "lo"}
	c.node()
	for _, i := range interfaces {
		if c.v4 {
			c.forwarding(i)
			c.routing(i)
			c.arp(i)
		}
		if path := "net/ipv6/conf/" + i.Name + "/disable_ipv6"; c.v6 && i.Roles&plane.RoleTunnel != 0 && c.Int(path) == 1 {
			c.find(name(path)+" = 1", "an IPv6 VIP cannot be held on "+i.Name, sysctl.Setting{Path: path})
		}
	}
	return c.found, errors.Join(c.Errs...)
}

type checker struct {
	sysctl.Reader
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

func (c *checker) arp(i plane.Interface) {
	ignore := c.highest(i.Name, "arp_ignore")
	own := sysctl.Setting{Path: conf4(i.Name, "arp_ignore")}
	switch {
	case i.Roles&plane.RoleTunnel != 0 && c.onLo && ignore > 0:
		settings := []sysctl.Setting{{Path: conf4("all", "arp_ignore")}, own}
		c.found = append(c.found, sysctl.Finding{What: fmt.Sprintf("arp_ignore = %d on %s (maximum of all and the interface's)", ignore, i.Name),
			Why: "nobody answers ARP for a VIP that is held on lo", Remedy: "hold VIPs on " + i.Name + " instead of lo, or " + sysctl.Command(settings...), Settings: settings})
	case i.Roles&plane.RoleTunnel == 0 && i.Roles&plane.RoleRealServers != 0 && ignore == 0:
		own.Value = 1
		c.find("arp_ignore = 0 on "+i.Name, "the director answers ARP for VIPs among the real servers, which hold them too", own)
	}
}
