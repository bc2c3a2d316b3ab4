package config

import (
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Cluster says how this director is one of several. Its addresses are those that the others dial, so each is one address
// and never a wildcard.
type Cluster struct {
	Name      string // as in the certificates; "": whatever they say
	Rank      int    // 1 to maxRank, unique: of the live ones the lowest assigns
	Role      string // one of the roles below
	Listen    netip.AddrPort
	Gossip    netip.AddrPort
	Heartbeat []netip.AddrPort // one for each path, at least one
	Join      []string         // host:port, gossip addresses of others; its own does no harm
	Keyring   string
	TLS       MutualTLS
	Authority string // directory of the cluster's authority; "": it is not here
	// AddressesAll: every director holds every VIP, and routers spread; else each address has one owner.
	AddressesAll bool
	PreemptAfter time.Duration // for which a preferred owner that has come back waits
	DeadAfter    time.Duration // of silence on all paths
}

// Silent tells whether every director holds every VIP, so that nobody is to be told of one.
func (c Config) Silent() bool { return c.Cluster != nil && c.Cluster.AddressesAll }

// The roles of directors, as package cluster has them.
const (
	RoleBothSides  = "both"
	RoleTunnelSide = "tunnel" // owns VIPs
	RoleSubnetSide = "subnet" // owns gateways
)

// The ports of the three listeners between directors.
const (
	PortStream    = 7462
	PortGossip    = 7463
	PortHeartbeat = 7464
)

const (
	maxRank  = 16
	maxPaths = 4  // the addresses of all paths travel in 512 bytes
	maxJoin  = 64 // more than there may be directors, and each under a few names
)

func (v value) cluster() *Cluster {
	c := &Cluster{Role: RoleBothSides, PreemptAfter: time.Minute, DeadAfter: 600 * time.Millisecond}
	v.fields(
		field{"name", func(v value) { v.clusterName(&c.Name) }},
		field{"rank", func(v value) { v.int(&c.Rank, 1, maxRank) }},
		field{"role", func(v value) { v.oneOf(&c.Role, RoleTunnelSide, RoleSubnetSide, RoleBothSides) }},
		field{"listen", func(v value) { c.Listen = v.dialled(PortStream) }},
		field{"gossip", func(v value) { c.Gossip = v.dialled(PortGossip) }},
		field{"heartbeat", func(v value) {
			v.list(func(v value) { c.Heartbeat = append(c.Heartbeat, v.dialled(PortHeartbeat)) })
			if len(c.Heartbeat) > maxPaths {
				v.fault("has %d paths; at most %d", len(c.Heartbeat), maxPaths)
			}
		}},
		field{"join", func(v value) {
			v.list(func(v value) { c.Join = append(c.Join, v.target()) })
			if len(c.Join) > maxJoin {
				v.fault("has %d addresses; at most %d, a few suffice", len(c.Join), maxJoin)
			}
		}},
		field{"keyring", func(v value) { v.file(&c.Keyring) }},
		field{"tls", func(v value) { v.section(func(v value) { v.mutualTLS(&c.TLS) }) }},
		field{"authority", func(v value) { v.file(&c.Authority) }},
		field{"addresses", func(v value) {
			word := ""
			v.oneOf(&word, "owned", "all")
			c.AddressesAll = word == "all"
		}},
		field{"preempt_after", func(v value) { v.duration(&c.PreemptAfter, 0, 24*time.Hour) }},
		field{"dead_after", func(v value) { v.duration(&c.DeadAfter, 300*time.Millisecond, time.Minute) }},
	)
	c.follow()
	return c
}

// follow gives the listeners that were not said the address of the first that was.
func (c *Cluster) follow() {
	said := append([]netip.AddrPort{c.Listen, c.Gossip}, c.Heartbeat...)
	i := slices.IndexFunc(said, netip.AddrPort.IsValid)
	if i < 0 {
		return
	}
	for dst, port := range map[*netip.AddrPort]uint16{&c.Listen: PortStream, &c.Gossip: PortGossip} {
		if !dst.IsValid() {
			*dst = netip.AddrPortFrom(said[i].Addr(), port)
		}
	}
	if len(c.Heartbeat) == 0 {
		c.Heartbeat = []netip.AddrPort{netip.AddrPortFrom(said[i].Addr(), PortHeartbeat)}
	}
}

// A cluster's name stands in certificates where a URI has its host.
var clusterRE = regexp.MustCompile(`^[A-Za-z0-9]+([.-][A-Za-z0-9]+)*$`)

func (v value) clusterName(dst *string) {
	s, ok := v.text()
	if !ok {
		return
	}
	if len(s) > 63 || !clusterRE.MatchString(s) {
		v.fault("%q is not the name of a cluster: 1 to 63 letters and digits, with single . or - between them", s)
		return
	}
	*dst = s
}

// dialled reads an address of this machine that other directors dial; the zero value after a fault.
func (v value) dialled(port uint16) netip.AddrPort {
	s, ok := v.text()
	if !ok {
		return netip.AddrPort{}
	}
	x, err := netip.ParseAddrPort(s)
	a := x.Addr()
	switch {
	case err != nil || x.Port() == 0:
		v.fault("%q is not ADDRESS:PORT; write an address of this director: 10.0.0.1:%d or [2001:db8::1]:%d", s, port, port)
	case a.IsUnspecified():
		v.fault("%s is every address, and the other directors have to dial one: write the address of this director that they reach, for example 10.0.0.1:%d", s, x.Port())
	case a.Is4In6():
		v.fault("%s is an IPv4 address in IPv6 clothes; write %s", s, netip.AddrPortFrom(a.Unmap(), x.Port()))
	case a.Zone() != "" || a.IsLinkLocalUnicast() || a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		v.fault("%s is not an address that other directors can dial; write a global or private one of this director", s)
	default:
		return x
	}
	return netip.AddrPort{}
}

var hostRE = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*\.?$`)

// target reads where another director is found, by address or by name; "" after a fault.
func (v value) target() string {
	s, ok := v.text()
	if !ok {
		return ""
	}
	if a, err := netip.ParseAddrPort(s); err == nil {
		if a.Port() > 0 && !a.Addr().IsUnspecified() && !a.Addr().IsMulticast() {
			return a.String()
		}
		v.fault("%s is not where a director can be dialled; write its gossip address: 10.0.0.2:%d", s, PortGossip)
		return ""
	}
	// A name that ends like an IPv4 address is a mistyped one.
	i := strings.LastIndexByte(s, ':')
	host, port := s[:max(i, 0)], s[i+1:]
	n, err := strconv.ParseUint(port, 10, 16)
	_, numeric := strconv.Atoi(host[strings.LastIndexByte(host, '.')+1:])
	if i < 0 || err != nil || n == 0 || len(host) > 253 || !hostRE.MatchString(host) || numeric == nil {
		v.fault("%q is not HOST:PORT; write the gossip address of another director: 10.0.0.2:%d, [2001:db8::2]:%d or directors.example.org:%d", s, PortGossip, PortGossip, PortGossip)
		return ""
	}
	return s
}
