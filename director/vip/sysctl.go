package vip

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"tunneldirector/director/plane"
)

// A Finding is something on the host that works against the director, and what a person can do about it.
type Finding struct {
	What   string // the fact
	Why    string // what goes wrong because of it
	Remedy string // a command
}

func (f Finding) String() string { return fmt.Sprintf("%s: %s; remedy: %s", f.What, f.Why, f.Remedy) }

// Check reads the kernel's settings below proc, which is /proc/sys as seen in the node's network namespace, and changes none.
// An error means that some could not be read; the findings about the others are there.
func Check(proc fs.FS, cfg Config, interfaces []plane.Interface, vips []netip.Addr) ([]Finding, error) {
	c := &checker{proc: proc, v4: slices.ContainsFunc(vips, netip.Addr.Is4), v6: slices.ContainsFunc(vips, netip.Addr.Is6),
		onLo: cmp.Or(cfg.Device, "lo") == "lo"}
	c.node()
	for _, i := range interfaces {
		if c.v4 {
			c.routing(i)
			c.arp(i)
		}
		if c.v6 && i.Roles&plane.RoleTunnel != 0 && c.read("net/ipv6/conf/"+i.Name+"/disable_ipv6") == 1 {
			c.find("net.ipv6.conf."+i.Name+".disable_ipv6 = 1", "an IPv6 VIP cannot be held on "+i.Name, set("net.ipv6.conf."+i.Name+".disable_ipv6", 0))
		}
	}
	return c.found, errors.Join(c.errs...)
}

type checker struct {
	proc   fs.FS
	v4, v6 bool
	onLo   bool // IPv4 VIPs are on lo
	found  []Finding
	errs   []error
}

// read is a setting's value, -1 if it cannot be read.
func (c *checker) read(path string) int {
	b, err := fs.ReadFile(c.proc, path)
	if err != nil {
		c.errs = append(c.errs, fmt.Errorf("check sysctl: %w", err))
		return -1
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		c.errs = append(c.errs, fmt.Errorf("check sysctl %s: %w", path, err))
		return -1
	}
	return n
}

// highest is how the kernel combines most settings: the maximum of all and the interface's.
func (c *checker) highest(ifname, name string) int {
	return max(c.read("net/ipv4/conf/all/"+name), c.read("net/ipv4/conf/"+ifname+"/"+name))
}

func (c *checker) find(what, why, remedy string) {
	c.found = append(c.found, Finding{what, why, remedy})
}

func set(name string, value int) string { return fmt.Sprintf("sysctl -w %s=%d", name, value) }

func (c *checker) node() {
	const why = "what the plane leaves to the stack (traffic of no tunnel, real servers' replies through the director) is not routed"
	if c.v4 && c.read("net/ipv4/ip_forward") == 0 {
		c.find("net.ipv4.ip_forward = 0", why, set("net.ipv4.ip_forward", 1))
	}
	if c.v6 && c.read("net/ipv6/conf/all/forwarding") == 0 {
		c.find("net.ipv6.conf.all.forwarding = 0", why, set("net.ipv6.conf.all.forwarding", 1))
	}
}

func (c *checker) routing(i plane.Interface) {
	conf := "net.ipv4.conf." + i.Name + "."
	if c.highest(i.Name, "rp_filter") == 1 {
		c.find("strict reverse-path filter on "+i.Name+" (rp_filter, the maximum of all and the interface's, is 1)",
			"packets whose answer would leave by another interface are dropped, and with direct routing that is the rule",
			set("net.ipv4.conf.all.rp_filter", 0)+" "+conf+"rp_filter=2")
	}
	if i.Roles&plane.RoleRealServers != 0 && c.read("net/ipv4/conf/"+i.Name+"/accept_local") == 0 {
		c.find(conf+"accept_local = 0", "real servers' replies carry the VIP as source: if they leave through this director they are dropped as martians; "+
			"nothing to do where real servers have a router of their own", set(conf+"accept_local", 1)+" "+conf+"rp_filter=0")
	}
	// The kernel sends redirects if either all or the interface says so.
	if i.Roles&(plane.RoleSubnet|plane.RoleTunnel) != 0 && c.highest(i.Name, "send_redirects") == 1 {
		c.find("send_redirects on "+i.Name+" (all or the interface's is 1)",
			"hosts that send through the director may be told to send past it", set("net.ipv4.conf.all.send_redirects", 0)+" "+conf+"send_redirects=0")
	}
}

func (c *checker) arp(i plane.Interface) {
	conf := "net.ipv4.conf." + i.Name + "."
	ignore := c.highest(i.Name, "arp_ignore")
	switch {
	case i.Roles&plane.RoleTunnel != 0 && c.onLo && ignore > 0:
		c.find(fmt.Sprintf("arp_ignore = %d on %s (maximum of all and the interface's)", ignore, i.Name),
			"nobody answers ARP for a VIP that is held on lo", "hold VIPs on "+i.Name+" instead of lo, or "+set("net.ipv4.conf.all.arp_ignore", 0)+" "+conf+"arp_ignore=0")
	case i.Roles&plane.RoleTunnel == 0 && i.Roles&plane.RoleRealServers != 0 && ignore == 0:
		c.find("arp_ignore = 0 on "+i.Name, "the director answers ARP for VIPs among the real servers, which hold them too", set(conf+"arp_ignore", 1))
	}
}
